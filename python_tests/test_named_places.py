"""Comments and docstrings name files and functions that exist. The documents have a test of their own."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("maskformer_ext", "csrc", "python_tests", "benchmarks", "tools", "examples", "docs", "cmake")
NATIVE = {".cpp", ".cu", ".cuh", ".h"}
# Names of others, and numbered names that are made while a program runs.
_FOREIGN = {"batch_norm", "loss_sem_seg_0"}
_PATH = re.compile(r"(?<![\w./<{*-])((?:[\w-]+/)+[\w-]+\.(?:py|cpp|cuh?|h|md|cmake))\b(?![\w<{*])")
_PLACEHOLDER = re.compile(r"\b[A-Z]+\.py$")
_NAME = re.compile(r"``?([A-Za-z_][\w.]*)(?:\(\))?``?")


def _files() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*")) if path.is_file()]


FILES = _files()
SOURCES = [path for path in FILES if path.suffix in {".py", *NATIVE} and "golden" not in path.parts]
_PATHS = [f"/{path.relative_to(ROOT).as_posix()}" for path in FILES]


@cache
def _texts(path: Path) -> tuple[str, ...]:
    """Return the comments and docstrings of a file."""
    source = path.read_text(encoding="utf-8")
    if path.suffix in NATIVE:
        return tuple(re.findall(r"//.*", source))
    defined = ast.Module | ast.ClassDef | ast.FunctionDef
    docstrings = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, defined)]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return (*docstrings, *(token.string for token in tokens if token.type == tokenize.COMMENT))


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
    words = {part.split(".")[0] for path in FILES for part in path.relative_to(ROOT).parts}
    return frozenset(words.union(*(re.findall(r"\w+", _code(path)) for path in SOURCES), _FOREIGN))


def find_lost_paths(text: str) -> list[str]:
    """Return the paths of sources that a text names and that do not exist, from the root or from below it."""
    named = {path for path in _PATH.findall(text) if not _PLACEHOLDER.search(path)}
    return sorted(path for path in named if not any(known.endswith(f"/{path}") for known in _PATHS))


def find_lost_names(text: str) -> list[str]:
    """Return the names in backticks that occur nowhere in the code."""
    named = set(_NAME.findall(text))
    return sorted(name for name in named if not all(part in _words() for part in name.split(".") if part))


@pytest.mark.parametrize("room", sorted({path.relative_to(ROOT).parts[0] for path in SOURCES}))
def test_comments_and_docstrings_name_what_exists(room: str) -> None:
    texts = {path: _texts(path) for path in SOURCES if path.is_relative_to(ROOT / room)}
    lost = {
        path.relative_to(ROOT).as_posix(): found
        for path, parts in texts.items()
        if (found := [name for part in parts for name in (*find_lost_paths(part), *find_lost_names(part))])
    }
    assert not lost


def test_what_is_lost_is_found() -> None:
    lost = "_".join(("lost", "function"))  # in parts, or this file would know it
    text = f"See ops/lost_op.py and `{lost}` beside ops/mask_loss.py, `mask_loss` and sets/NAME.py."
    assert find_lost_paths(text) == ["ops/lost_op.py"]
    assert find_lost_names(text) == [lost]
