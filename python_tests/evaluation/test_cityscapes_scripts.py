"""The benchmark's own scripts (cityscapesscripts), on the files that they take: the same classes, mIoU and PQ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from paint import PaintModel, paint
from PIL import Image

from maskformer_ext.config import Config, DataConfig
from maskformer_ext.data import build_dataset
from maskformer_ext.data.tables import load_categories
from maskformer_ext.evaluation.run import evaluate
from maskformer_ext.evaluation.submission import create_writer

scripts = pytest.importorskip("cityscapesscripts", reason="cityscapesscripts is the reference here")

SIZE = (24, 40)
_PATCH = 4  # pixels; what is drawn is made of such squares
_NEVER_THERE = 16  # train: a class that is neither in a label nor in a prediction has no IoU


def _patches(random: np.random.Generator, values: list[int]) -> np.ndarray:
    """Draw a map of squares, each of one of some values."""
    chosen = random.choice(values, (SIZE[0] // _PATCH, SIZE[1] // _PATCH))
    return chosen.repeat(_PATCH, 0).repeat(_PATCH, 1)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def _write_split(root: Path) -> None:
    """Write three images of two cities, with labels of all ids; the model sees other classes in each fourth square."""
    random = np.random.default_rng(0)
    ids = [i for i in range(34) if i != load_categories("cityscapes").ids[_NEVER_THERE]]
    classes = [k for k in range(19) if k != _NEVER_THERE]
    class_of_id = np.zeros(34, int)
    class_of_id[list(load_categories("cityscapes").ids)] = range(19)
    for city, frame in (("frankfurt", 294), ("frankfurt", 576), ("munster", 19)):
        label_ids = _patches(random, ids)
        seen = np.where(_patches(random, [0, 1, 1, 1]), class_of_id[label_ids], _patches(random, classes))
        stem = f"{city}_000000_{frame:06d}"
        _save(root / "leftImg8bit/val" / city / f"{stem}_leftImg8bit.png", paint(seen + 1, list(range(19))))
        _save(root / "gtFine/val" / city / f"{stem}_gtFine_labelIds.png", label_ids)


def test_the_class_table_is_theirs() -> None:
    from cityscapesscripts.helpers.labels import labels, trainId2label

    categories = load_categories("cityscapes")
    theirs = [trainId2label[k] for k in range(19)]
    assert categories.ids == tuple(label.id for label in theirs)
    assert categories.table.classes == tuple(label.name for label in theirs)
    assert categories.table.colors == tuple(label.color for label in theirs)
    assert categories.table.things == tuple(k for k in range(19) if theirs[k].hasInstances)
    assert {label.id for label in labels if label.ignoreInEval} == set(range(-1, 34)) - set(categories.ids)


def test_iou_is_that_of_their_script_on_our_submission(tmp_path: Path) -> None:
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as script

    _write_split(tmp_path)
    dataset, config = build_dataset(DataConfig(name="cityscapes", root=str(tmp_path)), "val"), Config()
    config.data.task = "semantic"
    writer = create_writer("cityscapes", tmp_path / "results", dataset.info)
    ours = evaluate(PaintModel(19), dataset, config, writer=writer)

    arguments = script.args
    arguments.predictionPath, arguments.predictionWalk = str(tmp_path / "results"), None
    arguments.JSONOutput, arguments.quiet, arguments.evalInstLevelScore = False, True, False
    truths = [str(path) for path in sorted(tmp_path.rglob("*_gtFine_labelIds.png"))]
    predictions = [script.getPrediction(arguments, truth) for truth in truths]
    theirs = script.evaluateImgLists(predictions, truths, arguments)

    assert ours["mIoU"] == pytest.approx(theirs["averageScoreClasses"], abs=1e-12)
    assert 0.5 < ours["mIoU"] < 0.9
    iou = {name: ours["per_class"][name]["IoU"] for name in dataset.info.classes}
    assert iou.pop("train") is None and np.isnan(theirs["classScores"]["train"])
    assert iou == pytest.approx({name: theirs["classScores"][name] for name in iou}, abs=1e-12)
