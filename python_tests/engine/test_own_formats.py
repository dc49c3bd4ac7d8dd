"""YOLO, LabelMe, VOC and plain masks from their folder to a score: what is recognised trains, and is scored again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from own_formats import drawings, write_labelme, write_masks, write_voc, write_yolo

from maskformer_ext.evaluate import main as evaluate
from maskformer_ext.train import main as train

_NAMES = ("cat", "dog")
_FOUND = drawings(4, ("cat", "cat", "dog"))
_SMALL = (
    *("model.backbone=test_resnet", "model.backbone_weights=null", "model.num_queries=8", "model.pixel_decoder_dim=32"),
    *("model.mask_dim=32", "model.hidden_dim=32", "model.num_heads=2", "model.feedforward_dim=32"),
    *("model.decoder_layers=1", "data.augmentation.min_sizes=[64]", "data.augmentation.crop_size=[64,64]"),
    *("inference.min_size=64", "train.max_iters=1", "train.batch_size=1", "data.num_workers=0", "data.val_share=0.4"),
)


def _yolo(root: Path) -> None:
    write_yolo(root, {"train": _FOUND[:2], "valid": _FOUND[2:]}, _NAMES)


def _labelme(root: Path) -> None:
    write_labelme(root, _FOUND)


def _voc(root: Path) -> None:
    write_voc(root, _FOUND, _NAMES, lists={"default": _FOUND}, colors=True)


def _masks(root: Path) -> None:
    masks = [(one.masks(_NAMES)[0] > 0).astype(np.uint8) * np.uint8(255) for one in _FOUND]
    write_masks(root, _FOUND, masks, "{}.jpg", "{}_mask.png")


@pytest.mark.parametrize(
    ("write", "task", "said", "score"),
    [
        (_yolo, "", "on yolo (instance, 2 classes)", "AP"),
        (_yolo, "panoptic", "on yolo (panoptic, 3 classes)", "PQ"),
        (_labelme, "", "on labelme (instance, 2 classes)", "AP"),
        (_voc, "", "on voc (instance, 2 classes)", "AP"),
        (_voc, "semantic", "on voc (semantic, 3 classes)", "mIoU"),
        (_masks, "", "on semantic_folder (semantic, 2 classes)", "mIoU"),
    ],
)
def test_a_folder_trains_and_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write: Callable[[Path], None], task: str, said: str, score: str
) -> None:
    root, output = tmp_path / "pets", tmp_path / "run"
    write(root)
    given = [f"data.task={task}"] * bool(task)
    assert train(["config=folder", f"data.root={root}", f"output_dir={output}", *_SMALL, *given]) == 0
    out = capsys.readouterr().out
    assert said in out and f'"{score}"' in (output / "metrics.json").read_text()
    assert evaluate([f"checkpoint={output}"]) == 0
    assert score in (output / "evaluation.json").read_text()
