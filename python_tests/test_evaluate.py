"""The evaluate command: which classes it scores, and what it says of files that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config

from maskformer_ext import build_model
from maskformer_ext.checkpoints.pretrained import numbered_classes
from maskformer_ext.config import Config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.evaluate import main

CLASSES = ("sky", "tree")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images with labels, of two classes."""
    root = tmp_path / "data"
    for part in ("images", "labels"):
        (root / "val" / part).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    generator = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(generator.integers(0, 255, (32, 40, 3), np.uint8)).save(root / "val" / "images" / f"{name}.png")
        Image.fromarray(generator.integers(0, 2, (32, 40), np.uint8)).save(root / "val" / "labels" / f"{name}.png")
    return root


def evaluate(folder: Path, info: DatasetInfo, *arguments: str) -> int:
    """Score a tiny model that knows the classes of ``info``; the scores go to ``scores.json`` beside the data."""
    torch.manual_seed(0)
    checkpoint, config = folder.parent / "model", Config()
    config.data.name, config.data.task, config.data.root = "semantic_folder", "semantic", str(folder)
    model = build_model(tiny_config(info.num_classes))
    model.save_pretrained(checkpoint, config=config, info=info, overwrite=True)
    return main([f"checkpoint={checkpoint}", f"output={folder.parent / 'scores.json'}", "device=cpu", *arguments])


def known(classes: tuple[str, ...]) -> DatasetInfo:
    return DatasetInfo("known", classes, ((1, 2, 3),) * len(classes))


def test_weights_without_names_are_scored_under_those_of_the_data(folder: Path) -> None:
    assert evaluate(folder, numbered_classes(2)) == 0
    scores = json.loads((folder.parent / "scores.json").read_text())
    assert tuple(scores["per_class"]) == CLASSES and scores["images"] == 3


def test_skipped_files_are_named_and_counted(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "val" / "images" / "a.png").write_bytes(b"no image")
    (folder / "val" / "labels" / "c.png").unlink()
    assert evaluate(folder, known(CLASSES)) == 2
    assert "c.png has no label" in capsys.readouterr().err
    assert evaluate(folder, known(CLASSES), "data.on_error=skip") == 0
    assert "1 images in" in (out := capsys.readouterr().out) and "2 left out (data.on_error=skip)" in out
    assert json.loads((folder.parent / "scores.json").read_text())["skipped"] == 2
    assert [word in message for word, message in zip(("c.png", "a.png"), caplog.messages, strict=True)] == [True, True]


@pytest.mark.parametrize("info", [known(("tree", "sky")), known(("sky", "tree", "sea")), numbered_classes(3)])
def test_other_classes_are_refused(folder: Path, info: DatasetInfo, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(folder, info) == 2
    assert "the data set semantic_folder has others (sky, tree...)" in capsys.readouterr().err


@pytest.mark.parametrize("asked", ["semantic", "panoptic"])
def test_scores_of_what_was_never_learnt_come_with_a_warning(
    tmp_path: Path, asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root, generator = tmp_path / "data", np.random.default_rng(0)
    for part, high in (("images", 255), ("labels", 3)):
        (root / "val" / part).mkdir(parents=True)
        Image.fromarray(generator.integers(0, high, (32, 40), np.uint8)).save(root / "val" / part / "a.png")
    (root / "classes.json").write_text('{"things": ["[red]cell"], "stuff": ["background"]}')
    config, checkpoint = Config(), tmp_path / "model"
    config.data.name, config.data.task, config.data.root = "instance_folder", "instance", str(root)
    info = DatasetInfo("cells", ("[red]cell",), ((1, 2, 3),), (0,))
    build_model(tiny_config(1)).save_pretrained(checkpoint, config=config, info=info, overwrite=True)
    command = [f"checkpoint={checkpoint}", f"output={tmp_path / 'scores.json'}", "device=cpu"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "warning" not in said.err and "[red]cell" in said.out
    assert main([*command, f"inference.tasks=[{asked}]"]) == 0
    assert f"warning: task={asked}: this model was trained with data.task=instance" in capsys.readouterr().err
