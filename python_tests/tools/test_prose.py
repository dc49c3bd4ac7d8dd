"""The check of prose finds long sentences where people read, and nowhere else."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "prose.py"
SHORT, LONG = "A " + "word " * 23 + "ends.", "A " + "word " * 24 + "ends."


@pytest.fixture
def prose() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prose", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.md", f"# Title\n\n{SHORT} {LONG}\n", 3),
        ("a.py", f'def f():\n    """{LONG}"""\n', 2),
        ("a.py", f"x = 1\n# {LONG}\n", 2),
        ("a.cpp", f"int x;\n// {LONG}\n", 2),
    ],
)
def test_a_long_sentence_is_named_with_its_line(
    prose: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, line: int
) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert prose.main([str(file)]) == 1
    assert capsys.readouterr().out.startswith(f"{file}:{line}: 26 words: ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md", f"{SHORT} {SHORT}\n"),
        ("a.md", f"```\n{LONG}\n```\n| {LONG} |\n"),
        ("a.md", f"- {SHORT}\n- {SHORT}\n"),
        ("a.md", f"`{LONG}` counts once.\n"),
        ("a.py", f'x = "{LONG}"\n'),
        ("a.py", f"x = 1  # {SHORT}\ny = 2  # {SHORT}\n"),
        ("a.cpp", f'const char* x = "{LONG}";\n'),
        ("a.txt", LONG),
    ],
)
def test_other_text_passes(prose: ModuleType, tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert prose.main([str(file)]) == 0
