"""Whoever only loads a model and segments an image starts neither the training loop, nor the commands, nor drawing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tiny import tiny_config

from maskformer_ext import build_model

_SEGMENT = """
import sys
import torch
from maskformer_ext import MaskFormer
from maskformer_ext.inference import segment

model = MaskFormer.from_pretrained(sys.argv[1])
assert segment(model, torch.zeros((3, 32, 48), dtype=torch.uint8)).class_map.shape == (32, 48)
loaded = {name for name in sys.modules if name.startswith("maskformer_ext.")}
rooms = {name.split(".")[1] for name in loaded}
others = rooms & {"cli", "demo", "engine", "evaluation", "integrations", "prediction", "train"}
print(" ".join(sorted(others | (loaded & {"maskformer_ext.pictures.segments", "maskformer_ext.pictures.text"}))))
"""


def test_inference_imports_neither_the_engine_nor_the_commands(tmp_path: Path) -> None:
    folder = build_model(tiny_config(3)).save_pretrained(tmp_path / "model")
    command = [sys.executable, "-c", _SEGMENT, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
