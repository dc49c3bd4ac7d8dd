"""List sentences above 25 words, which tire a reader, in documents, docstrings and comments. ``make lint`` runs it.

Usage: ``python tools/prose.py [FILE ...]``. Without files it reads everything that git tracks.
Code counts as one word. Tables, code blocks and generated figures are left out.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

MOST_WORDS = 25
_SOURCES = {".cpp", ".cu", ".cuh", ".h"}
_SKIPPED = re.compile(r"^(LICENSE|.*/golden/.*|.*/tables/.*)$")
_END = re.compile(r"(?<=[.!?])[\"')*_]*\s+(?=[^a-z])")
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|cf|vs|etc|Fig|fig|Eq|eq|sec|No)\.\s")
_NEW_THOUGHT = re.compile(r"^\s*([-*+]|\d+[.)]|#+|>|[\w.*\[\]`, ]{1,60}:)\s")
_TABLE = re.compile(r"^\s*(\||!\[|<|\[[^\]]+\]:)")
_DRAWING = re.compile(r" {3,}\S.* {3,}|-->|\+--|^\s*[-=|+ ]+$")


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line from 0, sentence) of running text. Code blocks, tables and drawings are left out."""
    paragraph: list[str] = []
    start, fenced = 0, False
    for number, line in enumerate([*text.split("\n"), ""]):
        fence = line.lstrip().startswith(("```", "~~~"))
        ends = not line.strip() or fence or fenced or _TABLE.match(line) or _DRAWING.search(line)
        if ends or _NEW_THOUGHT.match(line):
            yield from ((start, sentence) for sentence in _split(" ".join(paragraph)))
            paragraph = []
        fenced ^= fence
        if ends or fence:
            continue
        if not paragraph:
            start = number
        paragraph.append(line.strip())


def _split(paragraph: str) -> Iterator[str]:
    plain = re.sub(r"(`+).+?\1", "CODE", paragraph)
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", plain)
    plain = _ABBREVIATION.sub(r"\1 ", plain)
    yield from (part for part in _END.split(plain) if part.strip())


def words(sentence: str) -> int:
    """Count what has a letter or a digit in it."""
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """Yield (first line from 1, text) of a file: all of a document, the docstrings and comments of a source."""
    content = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        yield 1, content
    elif file.suffix == ".py":
        yield from _python_texts(content)
    elif file.suffix in _SOURCES:
        yield from _blocks(
            (number, match[2], bool(match[1].strip()))
            for number, line in enumerate(content.split("\n"), 1)
            if (match := re.search(r"^(|.*?\s)//+<? ?(.*)", line))
        )


def _python_texts(content: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            docstring := ast.get_docstring(node)
        ):
            yield node.body[0].lineno, docstring
    tokens = tokenize.generate_tokens(io.StringIO(content).readline)
    yield from _blocks(
        (token.start[0], token.string.lstrip("#: "), bool(token.line[: token.start[1]].strip()))
        for token in tokens
        if token.type == tokenize.COMMENT
    )


def _blocks(comments: Iterator[tuple[int, str, bool]]) -> Iterator[tuple[int, str]]:
    """Join comments on lines that follow each other. A comment behind code begins a text of its own."""
    block: list[str] = []
    last = first = 0
    for number, text, behind_code in comments:
        if block and (number != last + 1 or behind_code):
            yield first, "\n".join(block)
            block = []
        first = first if block else number
        block.append(text)
        last = number
    if block:
        yield first, "\n".join(block)


def main(arguments: list[str]) -> int:
    """Print every long sentence; return 1 if there is one."""
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=False).stdout.splitlines()
    found = 0
    for name in arguments or tracked:
        if _SKIPPED.match(name) or Path(name).suffix not in {".md", ".py", *_SOURCES} or not Path(name).is_file():
            continue
        for first, text in texts(Path(name)):
            for line, sentence in sentences(text):
                if (count := words(sentence)) > MOST_WORDS:
                    found += 1
                    print(f"{name}:{first + line}: {count} words: {sentence[:100]}")
    if found:
        print(f"{found} sentences above {MOST_WORDS} words")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
