"""Scores of real COCO files, crowds and overlaps included, are those that the submission gets from the references."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paint import CONFIDENT, PaintModel
from PIL import Image
from plain_pq import plain_pq

from maskformer_ext import ops
from maskformer_ext.config import Config, DataConfig
from maskformer_ext.data.build import build_dataset
from maskformer_ext.evaluation import run
from maskformer_ext.evaluation.submission import create_writer
from maskformer_ext.inference import PanopticResult

_IMAGES = 14  # with three crowds among their instances
Guess = tuple[list[np.ndarray], list[int]]  # masks (H, W) bool and their classes


def _disturb(masks: list[np.ndarray], labels: list[int], num_classes: int, random: np.random.Generator) -> Guess:
    """Leave out some masks, shift the others, mistake a few classes, and find the halves of some once more."""
    found: Guess = ([], [])
    for mask, label in zip(masks, labels, strict=True):
        for part in range(1 + (random.random() < 0.3)):
            if random.random() < 0.15:
                continue
            rows, columns = np.nonzero(mask)
            reach = 1 + int(0.1 * np.sqrt(len(rows)))
            shifted = np.roll(mask, random.integers(-reach, reach + 1, 2), (0, 1))
            if part and len(columns):
                shifted[:, : int(np.median(columns))] = False
            found[0].append(shifted)
            found[1].append(label if random.random() < 0.85 else int(random.integers(num_classes)))
    return found


def _logits(guess: Guess, num_classes: int, size: tuple[int, int], random: np.random.Generator) -> Any:
    """Return class and mask logits that mean the guess, each mask with a confidence of its own."""
    queries = len(guess[0]) + 1  # the last one says "no object"
    class_logits = torch.full((queries, num_classes + 1), -CONFIDENT)
    class_logits[-1, -1] = CONFIDENT
    class_logits[torch.arange(queries - 1), guess[1]] = torch.from_numpy(random.uniform(-9, -1, queries - 1)).float()
    mask_logits = torch.full((queries, *size), -CONFIDENT)
    for query, mask in enumerate(guess[0]):
        mask_logits[query][torch.from_numpy(mask)] = CONFIDENT
    return class_logits, mask_logits


def _evaluate(
    monkeypatch: pytest.MonkeyPatch, dataset: Any, task: str, guesses: Iterator[Any], writer: Any, limit: int
) -> dict[str, Any]:
    """Score guesses instead of what a network says."""
    info, config = dataset.info, Config()
    config.data.task, config.inference.tasks = task, [task]

    def segment_tasks(model: Any, images: list, *_: Any, **__: Any) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        for image in images:
            class_logits, mask_logits = next(guesses)
            size = tuple(image.shape[-2:])
            if task == "instance":
                results.append({task: ops.instance_inference(class_logits, mask_logits, size, top_k=40)})
            else:
                found = ops.panoptic_inference(class_logits, mask_logits, size, thing_classes=info.thing_classes)
                results.append({task: PanopticResult(*found)})
        return results

    monkeypatch.setattr(run, "segment_tasks", segment_tasks)
    return run.evaluate(PaintModel(info.num_classes), dataset, config, limit=limit, writer=writer)


def test_ap_is_that_of_pycocotools_on_our_submission(monkeypatch, tmp_path: Path, data_dir: Path) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is the reference here")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    root = data_dir / "coco_tiny"
    dataset = build_dataset(DataConfig(name="coco_instance", root=str(root), task="instance"), "val")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(root / "annotations/instances_val2017.json"))
    class_of = {category: index for index, category in enumerate(sorted(truth.cats))}

    def guesses() -> Iterator[Any]:
        random = np.random.default_rng(0)
        for image in truth.dataset["images"]:
            annotations = truth.loadAnns(truth.getAnnIds(image["id"]))
            masks = [truth.annToMask(annotation).astype(bool) for annotation in annotations]
            guess = _disturb(masks, [class_of[annotation["category_id"]] for annotation in annotations], 80, random)
            yield _logits(guess, 80, (image["height"], image["width"]), random)

    writer = create_writer("coco_instance", tmp_path, dataset.info)
    ours = _evaluate(monkeypatch, dataset, "instance", guesses(), writer, limit=_IMAGES)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "instance_results.json")), "segm")
        evaluation.params.imgIds = sorted(image["id"] for image in truth.dataset["images"][:_IMAGES])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    theirs = {**dict(zip(names, evaluation.stats[:6], strict=True)), "AR": evaluation.stats[8]}
    assert 0.1 < ours["AP"] < ours["AP50"] < 0.9
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-12)


def test_pq_is_that_of_the_definition_on_our_submission(monkeypatch, tmp_path: Path, data_dir: Path) -> None:
    source = data_dir / "coco_panoptic2"
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").symlink_to(source / "input_images")
    (tmp_path / "annotations/panoptic_val2017").symlink_to(source / "panoptic_examples")
    (tmp_path / "annotations/panoptic_val2017.json").symlink_to(source / "panoptic_examples.json")
    dataset = build_dataset(DataConfig(name="coco_panoptic", root=str(tmp_path), task="panoptic"), "val")
    truth = json.loads((source / "panoptic_examples.json").read_text())
    class_of = {category["id"]: index for index, category in enumerate(truth["categories"])}

    def guesses() -> Iterator[Any]:
        random = np.random.default_rng(0)
        for annotation in truth["annotations"]:
            colors = np.asarray(Image.open(source / "panoptic_examples" / annotation["file_name"])).astype(int)
            segments = annotation["segments_info"]
            masks = [colors @ [1, 256, 65536] == segment["id"] for segment in segments]
            guess = _disturb(masks, [class_of[segment["category_id"]] for segment in segments], 133, random)
            yield _logits(guess, 133, colors.shape[:2], random)

    writer = create_writer("coco_panoptic", tmp_path, dataset.info)
    ours = _evaluate(monkeypatch, dataset, "panoptic", guesses(), writer, limit=2)
    files = (
        source / "panoptic_examples.json",
        source / "panoptic_examples",
        tmp_path / "panoptic_results.json",
        tmp_path / "panoptic_results",
    )
    theirs = plain_pq(*files)
    assert sum(row["FP"] for row in theirs.values()) > 3 and sum(row["TP"] for row in theirs.values()) > 10
    for category, index in class_of.items():
        row = ours["per_class"][dataset.info.classes[index]]
        expected = theirs.get(category, {"TP": 0, "FP": 0, "FN": 0, "PQ": None, "SQ": None, "RQ": None})
        assert row == pytest.approx({name: expected[name] for name in row}, abs=1e-12)
    for name in ("PQ", "SQ", "RQ"):
        assert ours[name] == pytest.approx(np.mean([row[name] for row in theirs.values()]), abs=1e-12)
    _compare_with_panopticapi(files, ours)


def _compare_with_panopticapi(files: tuple[Path, Path, Path, Path], ours: dict[str, Any]) -> None:
    """Compare with the evaluation that panopticapi's authors put into cityscapesscripts, where that is installed."""
    with contextlib.suppress(ImportError):
        from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as script

        truth, found = (json.loads(path.read_text()) for path in (files[0], files[2]))
        pairs = zip(truth["annotations"], found["annotations"], strict=True)
        categories = {category["id"]: category for category in truth["categories"]}
        with contextlib.redirect_stdout(io.StringIO()):
            counts = script.pq_compute_single_core(0, list(pairs), str(files[1]), str(files[3]), categories)
        theirs = script.average_pq(counts, categories)
        for group, suffix in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
            for name in ("PQ", "SQ", "RQ"):
                assert ours[name + suffix] == pytest.approx(theirs[group][name.lower()], abs=1e-12), name + suffix
