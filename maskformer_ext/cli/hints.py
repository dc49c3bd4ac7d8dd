"""What commands say beyond errors and results: which key a bare argument was meant for, and what comes next."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from maskformer_ext.config.values import HUB_ID, PROGRAM_ENDINGS, WEIGHT_ENDINGS
from maskformer_ext.errors import printable

_RESULTS = (".json", ".csv", ".html", ".txt")
_SIZE = re.compile(r"\d+[x,]\d+")


def meant_keys(arguments: Iterable[str], own: Collection[str]) -> str:
    """Return the ``key=value`` that bare arguments were probably meant to be, as one would type them.

    Args:
        arguments: all of a command; those with a key stay as they are, and are left out.
        own: the command's keys.

    Returns:
        ``checkpoint=output/digits input=photo.jpg``; empty where one of them fits no key.
    """
    left = [key for key in own if not any(argument.startswith(f"{key}=") for argument in arguments)]
    guessed = []
    for argument in arguments:
        if "=" in argument:
            continue
        key = _meant_key(argument, left)
        if key is None:
            return ""
        left.remove(key)
        guessed.append(f"{key}={shell(argument)}")
    return " ".join(guessed)


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
