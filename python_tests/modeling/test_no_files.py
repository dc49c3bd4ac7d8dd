"""Networks know no files: weights come to them as state dicts."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

MODELING = Path(__file__).resolve().parents[2] / "maskformer_ext" / "modeling"
_OF_FILES = {"os", "io", "pathlib", "shutil", "pickle", "tempfile", "safetensors", "huggingface_hub"}


@pytest.mark.parametrize("path", sorted(MODELING.glob("*.py")), ids=lambda path: path.stem)
def test_a_module_of_modeling_opens_nothing(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in modules if name.split(".")[0] in _OF_FILES or name == "maskformer_ext.files"]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"open", "torch.load", "torch.save"} and not called.endswith(".open")
