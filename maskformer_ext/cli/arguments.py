"""The one parser of ``key=value`` for every command. Each error is a sentence: the key, what it takes, what came."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from maskformer_ext.cli.hints import meant_keys
from maskformer_ext.config.values import check_choice
from maskformer_ext.errors import UserError, why

_MOST_DIGITS = 18  # of a whole number


def split_arguments(
    arguments: Sequence[str], own: Mapping[str, str | None], *, sections: Sequence[str] | None = None
) -> tuple[dict[str, str | None], list[str]]:
    """Separate a command's own keys from those of the configuration.

    Args:
        arguments: ``key=value`` texts.
        own: the command's keys and their defaults.
        sections: of the configuration, whose keys the command takes too; None: all of them.

    Returns:
        The values of the command's keys, and the other arguments, whose keys hold a dot.

    Raises:
        UserError: if an argument is no ``key=value``, or names neither; it suggests the nearest key.
    """
    values = dict(own)
    others = []
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator or not key:
            meant = meant_keys(arguments, own)
            hint = f": did you mean {meant}?" if meant else f", for instance {next(iter(own))}=..."
            raise UserError(f"{argument!r} is not of the form key=value{hint}")
        if key in own:
            values[key] = value
        elif "." in key and (sections is None or key.partition(".")[0] in sections):
            others.append(argument)
        else:
            near = difflib.get_close_matches(key, own, n=1, cutoff=0.5) if "." not in key else []
            below = f", and those below {' and '.join(sections)}" if sections else ""
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(own)}{below}"
            raise UserError(f"unknown key {key!r}: {hint}")
    return values, others


def split_places(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate names of files and folders from keys; ``--key value`` and ``--key=value`` are ``key=value``."""
    places, keys = [], []
    rest = iter(arguments)
    for argument in rest:
        if argument.startswith("--"):
            name = argument.removeprefix("--")
            keys.append(name if "=" in name else f"{name}={next(rest, '')}")
        elif re.match(r"[\w.]+=", argument):
            keys.append(argument)
        else:
            places.append(argument)
    return places, keys


def required(values: Mapping[str, str | None], key: str, meaning: str) -> str:
    """Return a value that must be there.

    Args:
        values: of a command's keys.
        key: one of them.
        meaning: what to give, for the error.
    """
    value = values[key]
    if not value:
        raise UserError(f"{key}= is missing: give {meaning}")
    return value


def boolean(values: Mapping[str, str | None], key: str) -> bool:
    """Return what ``true`` or ``false`` means."""
    if values[key] not in ("true", "false"):
        raise UserError(f"{key} must be true or false, got {values[key]!r}")
    return values[key] == "true"


def whole_number(values: Mapping[str, str | None], key: str, what: str = "a whole number", *, least: int = 0) -> int:
    """Return a whole number.

    Args:
        values: of a command's keys.
        key: one of them.
        what: it counts, for the error, as "a number of images".
        least: the smallest that is taken.
    """
    text = values[key] or ""
    if not text.isascii() or not text.isdecimal() or len(text) > _MOST_DIGITS or int(text) < least:
        raise UserError(f"{key} must be {what}, at least {least}, got {values[key]!r}")
    return int(text)


def number(values: Mapping[str, str | None], key: str, least: float, most: float) -> float:
    """Return a number from ``least`` to ``most``, both of them included."""
    try:
        value = float(values[key] or "")
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise UserError(f"{key} must be a number from {least:g} to {most:g}, got {values[key]!r}")
    return value


def choice(values: Mapping[str, str | None], key: str, choices: Sequence[str], *, name: str | None = None) -> str:
    """Return one of some words.

    Args:
        values: of a command's keys.
        key: one of them.
        choices: what it may be.
        name: what the error calls the key, where users write it in another way.
    """
    value = values[key] or ""
    check_choice(name or key, value, choices)
    return value


def size(values: Mapping[str, str | None], key: str) -> tuple[int, int]:
    """Return height and width in pixels: ``512x768`` or ``512,768``. Brackets and spaces around do not matter."""
    text = values[key] or ""
    sides = [side.strip() for side in text.strip(" []()").lower().replace("x", ",").split(",")]
    if len(sides) != 2 or not all(side.isdecimal() and side.isascii() and 0 < int(side[:9]) for side in sides):
        raise UserError(f"{key} must be height and width in pixels, as in {key}=512x768 or {key}=512,768, got {text!r}")
    return int(sides[0]), int(sides[1])


def new_file(values: Mapping[str, str | None], key: str) -> Path:
    """Return the path of a file to write, whose folder must be there."""
    text = values[key] or ""
    path = Path(text).expanduser()
    if not text or path.is_dir():
        raise UserError(f"{key}={text} must name a file")
    if not path.parent.is_dir():
        raise UserError(f"{key}={text}: the folder {path.parent} does not exist")
    return path


def choose_device(values: Mapping[str, str | None], key: str = "device") -> str:
    """Return the device to run on: the named one, which must be available, or a GPU where there is one."""
    import torch

    name = values[key]
    if not name:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"{key}={name} is not available: {why(error)}") from None
    return name
