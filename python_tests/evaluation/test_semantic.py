"""Scores of class maps: cases worked out by hand, and a brute-force count."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from maskformer_ext.evaluation.semantic import SemanticEvaluator


def test_scores_of_a_case_worked_out_by_hand() -> None:
    truth = np.array([[0, 0, 0, 1], [1, 1, 255, 255]])
    prediction = np.array([[0, 0, 1, 1], [1, 2, 0, 2]])
    evaluator = SemanticEvaluator(4)
    evaluator.update(prediction, truth)
    scores = evaluator.compute()
    iou = [2 / 3, 2 / 4, 0.0]  # class 2 is only predicted, class 3 does not occur
    assert scores["mIoU"] == pytest.approx(sum(iou) / 3)
    assert scores["per_class"]["IoU"][:3] == pytest.approx(iou)
    assert math.isnan(scores["per_class"]["IoU"][3])
    assert scores["fwIoU"] == pytest.approx(0.5 * 2 / 3 + 0.5 * 2 / 4)
    assert scores["mACC"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert scores["pACC"] == pytest.approx(4 / 6)


def test_scores_equal_a_count_of_sets() -> None:
    random = np.random.default_rng(0)
    evaluator = SemanticEvaluator(5, ignore_label=9)
    pairs = []
    for shape in ((7, 11), (1, 1), (32, 5)):
        truth, prediction = random.choice([0, 1, 2, 3, 9], shape), random.integers(0, 5, shape)
        evaluator.update(torch.from_numpy(prediction), torch.from_numpy(truth))
        pairs.append((prediction[truth != 9], truth[truth != 9]))
    prediction, truth = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    expected = [((prediction == k) & (truth == k)).sum() / ((prediction == k) | (truth == k)).sum() for k in range(5)]
    scores = evaluator.compute()
    assert scores["per_class"]["IoU"] == pytest.approx(expected)
    assert scores["mIoU"] == pytest.approx(np.mean(expected))
    assert scores["pACC"] == pytest.approx((prediction == truth).mean())


def test_void_predictions_count_as_wrong_but_as_no_class() -> None:
    evaluator = SemanticEvaluator(2)
    evaluator.update(np.array([[0, -1, 7, 1]]), np.array([[0, 0, 0, 1]]))
    assert evaluator.compute()["per_class"]["IoU"] == pytest.approx([1 / 3, 1.0])


def test_merged_states_equal_one_evaluator() -> None:
    random = np.random.default_rng(1)
    whole, parts = SemanticEvaluator(3), [SemanticEvaluator(3), SemanticEvaluator(3)]
    for index in range(4):
        maps = random.integers(0, 3, (2, 8, 8))
        whole.update(*maps)
        parts[index % 2].update(*maps)
    parts[0].merge(parts[1].state())
    assert parts[0].compute() == whole.compute()


def test_nothing_known_gives_nan() -> None:
    evaluator = SemanticEvaluator(2)
    evaluator.update(np.zeros((2, 2), dtype=int), np.full((2, 2), 255))
    scores = evaluator.compute()
    assert all(math.isnan(scores[key]) for key in ("mIoU", "fwIoU", "mACC", "pACC"))


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (np.zeros((2, 3), dtype=int), np.zeros((3, 2), dtype=int), r"size of truth, \(3, 2\), got \(2, 3\)"),
        (np.zeros((1, 2), dtype=int), np.array([[0, 4]]), r"\[0, 3\) or 255, got values from 0 to 4"),
    ],
)
def test_unfit_maps_are_refused(prediction: np.ndarray, truth: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SemanticEvaluator(3).update(prediction, truth)
