"""Average precision against pycocotools, and run lengths against its encoder."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest

from maskformer_ext.evaluation.instance import InstanceEvaluator, runs_of_segments

coco_masks = pytest.importorskip("pycocotools.mask", reason="pycocotools is the reference here")


def _encode(mask: np.ndarray) -> dict:
    return coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))


def _image(
    random: np.random.Generator, segments: int = 10, size: tuple[int, int] = (48, 64), sides: tuple[int, int] = (5, 15)
) -> tuple:
    truth = np.full(size, -1, dtype=np.int32)
    for index in range(segments):
        y, x = random.integers(0, size[0] - 8), random.integers(0, size[1] - 8)
        truth[y : y + random.integers(*sides), x : x + random.integers(*sides)] = index
    labels = random.integers(0, 4, segments)
    shifted = [np.roll(truth == index, random.integers(-3, 4), random.integers(0, 2)) for index in range(segments)]
    return truth, labels, shifted, random.random(segments)


def _pycocotools(evaluator: InstanceEvaluator, categories: list[int]) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truths = [
        {
            "id": number,
            "iscrowd": truth["iscrowd"],
            "area": truth["area"],
            "segmentation": coco_masks.frPyObjects(truth["rle"], *truth["rle"]["size"]),
            "bbox": [0, 0, 1, 1],
            "image_id": truth["image_id"],
            "category_id": truth["category_id"],
        }
        for number, truth in enumerate(evaluator.truths, start=1)
    ]
    found = [
        {**{k: p[k] for k in ("image_id", "category_id", "score")}, "segmentation": p["rle"]}
        for p in evaluator.predictions
        if p["category_id"] in categories
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": evaluator.images,
            "annotations": truths,
            "categories": [{"id": c} for c in categories],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("crowds", [0.0, 0.3])
@pytest.mark.parametrize("things", [[0, 1, 2, 3], [1, 3]])
def test_ap_equals_pycocotools(things: list[int], crowds: float) -> None:
    random = np.random.default_rng(5)
    evaluator = InstanceEvaluator(4, things)
    for index in range(6):
        size, sides = ((48, 64), (5, 15)) if index < 4 else ((260, 300), (20, 220))  # small, medium and large masks
        truth, labels, masks, scores = _image(random, size=size, sides=sides)
        guessed = np.where(random.random(len(labels)) < 0.8, labels, (labels + 1) % 4)
        crowd = random.random(len(labels)) < crowds
        evaluator.update(index, scores, guessed, [_encode(mask) for mask in masks], truth, labels, crowd)
    scores, expected = evaluator.compute(), _pycocotools(evaluator, things)
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    assert tuple(scores[name] for name in names) == pytest.approx(tuple(expected[:6]), abs=1e-12)
    assert scores["AR"] == pytest.approx(expected[8], abs=1e-12)  # at 100 detections
    assert all(scores[name] > 0 for name in names)
    per_class = [scores["per_class"]["AP"][label] for label in things]
    assert scores["AP"] == pytest.approx(np.mean(per_class))


def test_perfect_masks_score_one_and_classes_that_do_not_occur_nan() -> None:
    truth = np.array([[0, 0, 1, 1], [0, 0, -1, 1]])
    evaluator = InstanceEvaluator(3)
    evaluator.update(0, [0.9, 0.8], [2, 2], [_encode(truth == 0), _encode(truth == 1)], truth, [2, 2])
    scores = evaluator.compute()
    assert scores["AP"] == scores["AP50"] == scores["AP75"] == 1.0
    assert [math.isnan(value) for value in scores["per_class"]["AP"]] == [True, True, False]


def test_instances_that_overlap_are_whole_in_the_truth() -> None:
    small, large = np.zeros((2, 60, 60), dtype=bool)
    small[20:40, 20:40], large[10:50, 10:50] = True, True
    top = np.where(small, 0, np.where(large, 1, -1))
    scores = {}
    for name, whole in (("flat", None), ("whole", np.array([small, large]))):
        evaluator = InstanceEvaluator(2)
        found = [_encode(small), _encode(large)]
        evaluator.update(0, np.ones(2), np.arange(2), found, top, np.arange(2), true_masks=whole)
        scores[name] = evaluator.compute()["AP"]
    assert scores["whole"] == 1.0 and scores["flat"] < 0.9
    with pytest.raises(ValueError, match=r"true_masks must be \(T, H, W\) = \(2, 60, 60\), got \(1, 60, 60\)"):
        evaluator.update(1, np.ones(2), np.arange(2), found, top, np.arange(2), true_masks=whole[:1])


def test_no_predictions_score_zero_and_no_truth_nan() -> None:
    evaluator = InstanceEvaluator(2)
    assert math.isnan(evaluator.compute()["AP"])
    evaluator.update(0, [], [], [], np.array([[0, 0], [-1, 1]]), [1, 1])
    scores = evaluator.compute()
    assert scores["AP"] == 0.0
    assert (scores["AP_small"], scores["AR"]) == (0.0, 0.0)
    assert math.isnan(scores["AP_large"])
    assert [math.isnan(value) for value in scores["per_class"]["AP"]] == [True, False]


def test_crowds_need_not_be_found_and_excuse_what_lies_on_them() -> None:
    truth = np.zeros((8, 8), dtype=int)
    truth[:, 4:] = 1
    thing, part_of_crowd = _encode(truth == 0), _encode((truth == 1) & (np.arange(8)[:, None] < 4))
    evaluator = InstanceEvaluator(1)
    evaluator.update(0, [0.9, 0.8], [0, 0], [part_of_crowd, thing], truth, [0, 0], crowd=[False, True])
    assert evaluator.compute()["AP"] == 1.0
    only_crowds = InstanceEvaluator(1)
    only_crowds.update(0, [0.9], [0], [thing], truth, [0, 0], crowd=[True, True])
    assert math.isnan(only_crowds.compute()["AP"])
    with pytest.raises(ValueError, match=r"crowd must be \(T,\) = \(2,\), got \(1,\)"):
        evaluator.update(1, [], [], [], truth, [0, 0], crowd=[True])


def test_more_detections_than_the_limit_do_not_count() -> None:
    truth = np.arange(40).reshape(4, 10).repeat(4, 0).repeat(4, 1)
    masks = [_encode(truth == index) for index in range(40)]
    scores = {}
    for limit in (10, 40):
        evaluator = InstanceEvaluator(1, max_detections=limit)
        evaluator.update(0, np.linspace(1, 0.1, 40), [0] * 40, masks, truth, [0] * 40)
        scores[limit] = evaluator.compute()["AP"]
    assert scores[40] == 1.0
    assert scores[10] == pytest.approx(26 / 101)  # recall 0.25: 26 of COCO's 101 recall steps


def test_merged_states_equal_one_evaluator() -> None:
    random = np.random.default_rng(6)
    whole, parts = InstanceEvaluator(4), [InstanceEvaluator(4), InstanceEvaluator(4)]
    for index in range(4):
        truth, labels, masks, scores = _image(random)
        arguments = (index, scores, labels, [_encode(mask) for mask in masks], truth, labels)
        whole.update(*arguments)
        parts[index % 2].update(*arguments)
    parts[0].merge(parts[1].state())
    assert parts[0].compute()["AP"] == pytest.approx(whole.compute()["AP"])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (13, 17)])
def test_runs_of_segments_decode_to_the_segments(size: tuple[int, int]) -> None:
    segment_map = np.random.default_rng(7).integers(-1, 4, size)
    for index, counts in enumerate(runs_of_segments(segment_map, 5)):
        rle = coco_masks.frPyObjects({"size": list(size), "counts": counts}, *size)
        np.testing.assert_array_equal(coco_masks.decode(rle), segment_map == index)


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"size of segment_map, \[2, 2\], got \[3, 3\]"):
        InstanceEvaluator(1).update(0, [1.0], [0], [_encode(np.ones((3, 3)))], np.zeros((2, 2), dtype=int), [0])
