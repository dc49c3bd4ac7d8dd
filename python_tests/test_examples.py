"""The programs in examples/ run as a user would run them, and their table lists each of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import maskformer_ext

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NEEDS = {
    "accelerate_transformers.py": ("transformers",),
    "run_an_onnx_file.py": ("onnx", "onnxscript", "onnxruntime"),
    "finetune_eomt.py": ("transformers.models.eomt", "accelerate", "scipy"),
    "finetune_mask2former.py": ("transformers", "accelerate", "scipy"),
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example: Path, tmp_path: Path) -> None:
    for package in NEEDS.get(example.name, ()):
        pytest.importorskip(package)
    environment = os.environ | {"PYTHONPATH": str(Path(maskformer_ext.__file__).parents[1])}
    done = subprocess.run([sys.executable, example], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{example.name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip(), f"{example.name} printed nothing"


def test_finetuning_learns_camvid(data_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    command = [sys.executable, str(ROOT / "examples" / "finetune_mask2former.py"), str(data_dir / "camvid"), "", "2"]
    environment = os.environ | {"PYTHONPATH": str(Path(maskformer_ext.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("losses: [")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short_and_says_how_to_run_it(example: Path) -> None:
    text = example.read_text()
    assert text.startswith('"""') and f"python examples/{example.name}" in text.split('"""')[1]
    assert len(text.splitlines()) <= 70


def test_readme_lists_exactly_the_examples() -> None:
    rows = re.findall(r"^\| \[(\S+)\]\((\S+)\) \|", (ROOT / "examples" / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == [(path.name, path.name) for path in EXAMPLES]
