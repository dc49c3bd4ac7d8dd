"""The one exception that means: the user can fix this; and how messages quote what others wrote."""

from __future__ import annotations

import unicodedata

_LONGEST_REASON = 200
# What a terminal obeys instead of showing: control characters, lone surrogates, line separators, changes of direction.
_OBEYED = {"Cc", "Cs", "Zl", "Zp"}
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class UserError(Exception):
    """Report a problem in data, configuration or a checkpoint in one sentence that says what to do.

    Commands print the sentence alone, without a traceback, and exit with status 2. Whatever the sentence quotes, a
    terminal can show it.
    """

    def __str__(self) -> str:
        return visible(super().__str__())


def printable(text: object) -> str:
    """Return a text on one line that any terminal and any file takes.

    Names of files and classes come from strangers. Some characters would move the cursor, change colours or the
    direction of writing. They are written as escapes, as are bytes of a file name that are no UTF-8.

    Args:
        text: anything; its ``str`` is taken.
    """
    line = " ".join(str(text).split())
    if line.isascii() and line.isprintable():
        return line
    return "".join(_escaped(char) for char in line)


def visible(text: str) -> str:
    """Return a text as `printable` does, but with all of its spaces, which belong to names of files and classes."""
    return " ".join(printable(part) for part in text.split(" "))


def why(error: BaseException) -> str:
    """Return the reason that an exception gives, as one short printable line; its type where it gives none."""
    if isinstance(error, UserError):
        return printable(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror)
    lines = str(error).strip().splitlines()
    reason = printable(lines[0]) if lines else ""
    if isinstance(error, KeyError) and reason:
        reason = f"{reason} is missing"
    reason = reason or type(error).__name__
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 3]}..."


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a file name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(char) in _OBEYED or char in _DIRECTIONS:
        return char.encode("unicode_escape").decode("ascii") if not 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"
    return char
