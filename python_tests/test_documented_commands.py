"""The commands that documents show: their names exist, and so does every key that they are given."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
import sys
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from maskformer_ext.__main__ import COMMANDS
from maskformer_ext.config import Config

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for place in ("*.md", "docs/**/*.md")
    for path in ROOT.glob(place)
    if path.name != "CHANGELOG.md" and (path.parent.name != "commands" or path.stem in (*COMMANDS, "README"))
)
_CALL = re.compile(r"(?:maskformer-ext +|-m maskformer_ext[. ])(\w+)\b(.*)")
pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the tests of an installed package")


def _find_calls(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (command, arguments) of the shell samples of a document."""
    for sample in re.findall(r"^ *```(?:bash|sh)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        for line in sample.replace("\\\n", " ").splitlines():
            if (call := _CALL.search(line)) is not None:
                yield call[1], shlex.split(re.split(r"[|>]", call[2])[0], comments=True)


@cache
def _help(command: str) -> str:
    called = [sys.executable, "-m", "maskformer_ext", command, "--help"]
    return subprocess.run(called, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@cache
def _config_keys(schema: type = Config, prefix: str = "") -> frozenset[str]:
    keys: set[str] = set()
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        if dataclasses.is_dataclass(hints[field.name]):
            keys |= _config_keys(hints[field.name], f"{prefix}{field.name}.")
        else:
            keys.add(f"{prefix}{field.name}")
    return frozenset(keys)


def find_mistakes(text: str) -> list[str]:
    """Return the commands and keys of a document's shell samples that do not exist."""
    mistakes = []
    for command, arguments in _find_calls(text):
        if command not in COMMANDS:
            mistakes.append(command)
            continue
        for argument in arguments:
            key, equals, _ = argument.lstrip("-").partition("=")
            known = key in _config_keys() or re.search(rf"(?<![\w.]){re.escape(key)}=", _help(command))
            if equals and re.fullmatch(r"[\w.]+", key) and not known:
                mistakes.append(f"{command} {key}=")
    return mistakes


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_commands_and_keys_exist(document: Path) -> None:
    assert find_mistakes((ROOT / document).read_text(encoding="utf-8")) == []


def test_mistakes_are_found() -> None:
    text = (
        "```bash\nmaskformer-ext trian config=digits\npython -m maskformer_ext.train config=digits model.queries=3 \\\n"
        "    seed=1 # train x=1\ntorchrun -m maskformer_ext predict chekpoint=RUN | head x=1\n```\n"
    )
    assert find_mistakes(text) == ["trian", "train model.queries=", "predict chekpoint="]
