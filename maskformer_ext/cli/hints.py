"""What commands say beyond errors and results: which key a bare argument was meant for, and what comes next."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from maskformer_ext.config.values import HUB_ID, PROGRAM_ENDINGS, WEIGHT_ENDINGS
from maskformer_ext.errors import printable

_RESULTS = (".json", ".csv", ".html", ".txt")
_SIZE = re.compile(r"\d+[x,]\d+")
_PAIR = re.compile(r"[\w.]+=.+", re.DOTALL)


def meant_keys(arguments: Sequence[str], own: Collection[str]) -> str:
    """Return the ``key=value`` that bare arguments were probably meant to be, as one would type them.

    Args:
        arguments: all of a command; those with a key stay as they are, and are left out.
        own: the command's keys.

    Returns:
        ``checkpoint=output/digits input=photo.jpg``; empty where one of them fits no key.
    """
    if (written := written_otherwise(arguments)) is not None:
        return written
    left = [key for key in own if not any(argument.startswith(f"{key}=") for argument in arguments)]
    guessed: list[str] = []
    for argument in arguments:
        if "=" in argument:
            continue
        key = _meant_key(argument, left)
        if key is None:
            return ""
        if key == "output" and "checkpoint" in left and not guessed and not Path(argument).suffix:
            key = "checkpoint"  # mistyped: the first of all is what the work begins with
        left.remove(key)
        guessed.append(f"{key}={shell(argument)}")
    return " ".join(guessed)


def written_otherwise(arguments: Sequence[str]) -> str | None:
    """Return ``--key value``, ``--key=value`` and ``key = value`` as ``key=value``; None for other words."""
    joined: list[str] = []
    for argument in arguments:
        if joined and (argument.startswith("=") or joined[-1].endswith("=")):
            joined[-1] += argument
        elif joined and joined[-1].startswith("--") and "=" not in joined[-1] and not argument.startswith("--"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    pairs = [text.removeprefix("--") for text in joined]
    if pairs == list(arguments) or not all(_PAIR.fullmatch(pair) for pair in pairs):
        return None
    return " ".join(f"{key}={shell(value)}" for key, _, value in (pair.partition("=") for pair in pairs))


def shell(path: object) -> str:
    """Return a path as a shell takes it, on one line that a terminal shows."""
    return shlex.quote(printable(path))


def print_next(commands: Sequence[str], *, what: str = "next:") -> None:
    """Print the commands that go on from a result, one per line."""
    print(what)
    for command in commands:
        print(f"  maskformer-ext {command}")


def _meant_key(argument: str, keys: Collection[str]) -> str | None:
    """Return the first key that an argument looks like a value of; the keys are those that are not given yet."""
    path = Path(argument)
    looks = {
        "size": bool(_SIZE.fullmatch(argument)),
        "format": False,
        "checkpoint": _is_model(path) or (not path.exists() and bool(HUB_ID.fullmatch(argument)) and not path.suffix),
        "input": path.exists() or any(sign in argument for sign in "*?[") or bool(path.suffix) or "://" in argument,
        "output": path.suffix in (*PROGRAM_ENDINGS, *_RESULTS) or not path.suffix,
    }
    if path.suffix in PROGRAM_ENDINGS and "size" in keys:  # what export writes
        looks["checkpoint"] = False
    return next((key for key, fits in looks.items() if fits and key in keys), None)


def _is_model(path: Path) -> bool:
    """Return whether a path is weights, a program or the folder of a run."""
    if path.suffix in (*WEIGHT_ENDINGS, *PROGRAM_ENDINGS):
        return True
    return path.is_dir() and any((path / name).exists() for name in ("checkpoints", "model.safetensors", "config.json"))
