"""Sizes on the command line: one parser for every command."""

from __future__ import annotations

from maskformer_ext.errors import UserError


def parse_size(text: str, key: str = "size") -> tuple[int, int]:
    """Return the height and width, in pixels, that a text names.

    Args:
        text: ``512x768`` or ``512,768``; brackets and spaces around do not matter.
        key: the argument, for the error.

    Raises:
        UserError: if it names no two whole numbers above 0.
    """
    sides = [side.strip() for side in text.strip(" []()").lower().replace("x", ",").split(",")]
    if len(sides) != 2 or not all(side.isdecimal() and side.isascii() and 0 < int(side[:9]) for side in sides):
        raise UserError(f"{key} must be height and width in pixels, as in {key}=512x768 or {key}=512,768, got {text!r}")
    return int(sides[0]), int(sides[1])
