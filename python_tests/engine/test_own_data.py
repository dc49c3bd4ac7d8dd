"""Own data from its folder to a score: what is recognised trains, is scored, handed in, and taken up again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from coco_exports import CLASSES, drawn, label_studio, roboflow

from maskformer_ext.evaluate import main as evaluate
from maskformer_ext.train import main as train

_SMALL = (
    *("backbone=test_resnet", "backbone_weights=null", "num_queries=8", "pixel_decoder_dim=32", "mask_dim=32"),
    *("hidden_dim=32", "num_heads=2", "feedforward_dim=32", "decoder_layers=1"),
)
_SIZES = ("data.augmentation.min_sizes=[64]", "data.augmentation.crop_size=[64,64]", "inference.min_size=64")
_ONE_STEP = ("train.max_iters=1", "train.batch_size=1", "train.checkpoint_period=1", "data.num_workers=0")


def _train(root: Path, output: Path, *overrides: str) -> dict:
    model = [f"model.{value}" for value in _SMALL]
    arguments = ["config=folder", f"data.root={root}", f"output_dir={output}", *model, *_SIZES, *_ONE_STEP, *overrides]
    assert train(arguments) == 0
    return json.loads((output / "metrics.json").read_text())


def test_instances_of_coco_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, output = roboflow(tmp_path / "parts", drawn(3), drawn(2, first=3)), tmp_path / "run"
    metrics = _train(root, output)
    said = capsys.readouterr().out
    assert "COCO JSON as Roboflow exports it" in said and "on coco (instance, 2 classes)" in said
    assert "AP" in json.dumps(metrics)
    assert evaluate([f"checkpoint={output}", f"submission={tmp_path / 'sub'}", "format=coco_instance"]) == 0
    (file,) = (tmp_path / "sub").rglob("*.json")
    results = json.loads(file.read_text())
    assert (
        results and {one["category_id"] for one in results} <= {1, 2} and {one["image_id"] for one in results} <= {0, 1}
    )
    _train(root, output, "train.max_iters=2", "resume=auto")
    assert "2/2" in capsys.readouterr().out


def test_the_other_tasks_of_outlines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = label_studio(tmp_path / "parts", drawn(8))
    metrics = _train(root, tmp_path / "run", "data.task=semantic", "data.val_share=0.4")
    assert "mIoU" in json.dumps(metrics) and "(semantic, 3 classes)" in capsys.readouterr().out


def test_label_images_of_datasets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datasets = pytest.importorskip("datasets")
    from tables_saved import label_rows

    features = datasets.Features({"image": datasets.Image(), "label": datasets.Image()})
    splits = {"train": label_rows(drawn(3)), "validation": label_rows(drawn(2, first=3))}
    saved = {split: datasets.Dataset.from_list(rows, features=features) for split, rows in splits.items()}
    datasets.DatasetDict(saved).save_to_disk(str(tmp_path / "parts"))
    (tmp_path / "parts" / "classes.txt").write_text("\n".join(("table", *CLASSES)))
    metrics = _train(tmp_path / "parts", tmp_path / "run")
    assert "mIoU" in json.dumps(metrics) and "on huggingface (semantic, 3 classes)" in capsys.readouterr().out
    assert evaluate([f"checkpoint={tmp_path / 'run'}"]) == 0
