"""Comments and docstrings name code that exists. Files that they name are held by the test of the documents."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("maskformer_ext", "csrc", "python_tests", "benchmarks", "tools", "examples")
NATIVE = {".cpp", ".cu", ".cuh", ".h"}
# A name of torch's, and one that is made while a program runs.
_ELSEWHERE = {"batch_norm", "loss_sem_seg_0"}
_NAME = re.compile(r"``?([A-Za-z_][\w.]*)(?:\(\))?``?")
SOURCES = [
    path
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*"))
    if path.suffix in {".py", *NATIVE} and "golden" not in path.parts
]


def _texts(path: Path) -> list[str]:
    """Return the comments and docstrings of a file."""
    source = path.read_text(encoding="utf-8")
    if path.suffix in NATIVE:
        return re.findall(r"//.*", source)
    defined = ast.Module | ast.ClassDef | ast.FunctionDef
    docstrings = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, defined)]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [*docstrings, *(token.string for token in tokens if token.type == tokenize.COMMENT)]


def _code(path: Path) -> str:
    """Return a file without its comments and docstrings."""
    source = path.read_text(encoding="utf-8")
    if path.suffix in NATIVE:
        return re.sub(r"//.*", "", source)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    kept = (tokenize.NAME, tokenize.STRING)
    return " ".join(token.string for token in tokens if token.type in kept and not token.string.startswith('"""'))


@cache
def _words() -> frozenset[str]:
    """Return all words of the code, and the names of its files and folders."""
    words = {part.split(".")[0] for path in SOURCES for part in path.relative_to(ROOT).parts}
    return frozenset(words.union(*(re.findall(r"\w+", _code(path)) for path in SOURCES), _ELSEWHERE))


def find_lost_names(text: str) -> list[str]:
    """Return the names in backticks that occur nowhere in the code."""
    named = set(_NAME.findall(text))
    return sorted(name for name in named if not all(part in _words() for part in name.split(".") if part))


@pytest.mark.parametrize("room", sorted({path.relative_to(ROOT).parts[0] for path in SOURCES}))
def test_comments_and_docstrings_name_what_exists(room: str) -> None:
    lost = {
        path.relative_to(ROOT).as_posix(): names
        for path in SOURCES
        if path.is_relative_to(ROOT / room) and (names := find_lost_names("\n".join(_texts(path))))
    }
    assert not lost


def test_what_is_lost_is_found() -> None:
    lost = "_".join(("lost", "function"))  # in parts, or this file would know it
    assert find_lost_names(f"`{lost}` is gone, `mask_loss` is there.") == [lost]
