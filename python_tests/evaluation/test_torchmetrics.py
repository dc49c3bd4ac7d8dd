"""Panoptic quality beside torchmetrics' own, as another implementation that installs from a package."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskformer_ext.evaluation.panoptic import PanopticEvaluator

THINGS, STUFFS = (0, 1, 2), (3, 4)
VOID = 9


def _scene(random: np.random.Generator, shape: tuple[int, int], void: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return a map of class and instance, (H, W) each: blocks of things, each its own instance, among stuff."""
    coarse = (shape[0] // 4, shape[1] // 4)
    classes = random.choice([*THINGS, *STUFFS, VOID] if void else [*THINGS, *STUFFS], coarse)
    numbers = np.where(np.isin(classes, THINGS), np.arange(classes.size).reshape(coarse), 0)
    return classes.repeat(4, 0).repeat(4, 1), numbers.repeat(4, 0).repeat(4, 1)


def _segments(classes: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the pairs of class and instance: (H, W) indices, -1 = void, and the class of each."""
    pairs = classes * 10_000 + numbers
    known = np.unique(pairs[classes != VOID])
    return np.where(classes == VOID, -1, np.searchsorted(known, pairs)), known // 10_000


@pytest.mark.parametrize("seed", range(8))
def test_panoptic_quality_equals_torchmetrics(seed: int) -> None:
    detection = pytest.importorskip("torchmetrics.detection")
    reference = detection.PanopticQuality(
        THINGS, STUFFS, allow_unknown_preds_category=True, return_sq_and_rq=True, return_per_class=True
    )
    random = np.random.default_rng(seed)
    evaluator = PanopticEvaluator(5, THINGS)
    for _ in range(3):
        true_classes, true_numbers = _scene(random, (32, 40), void=True)
        # Every pixel has a class: torchmetrics forgives a miss that a prediction leaves void, panopticapi does not.
        other_classes, other_numbers = _scene(random, (32, 40), void=False)
        agree = (random.random((32, 40)) < random.choice([0.55, 0.75, 0.9])) & (true_classes != VOID)
        classes = np.where(agree, true_classes, other_classes)
        numbers = np.where(agree, true_numbers, other_numbers + 5000 * (other_numbers > 0))
        predicted, categories = _segments(classes, numbers)
        truth, labels = _segments(true_classes, true_numbers)
        infos = [{"id": index + 1, "category_id": int(label)} for index, label in enumerate(categories)]
        evaluator.update(predicted + 1, infos, truth, labels)
        pairs = (np.stack(maps, axis=-1)[None] for maps in ((classes, numbers), (true_classes, true_numbers)))
        reference.update(*(torch.from_numpy(pair) for pair in pairs))
    expected = reference.compute().T.numpy()  # (PQ, SQ, RQ) of each class, things first
    found = evaluator.compute()
    assert 0 < sum(found["per_class"]["TP"]) and 0 < sum(found["per_class"]["FP"])
    np.testing.assert_allclose(np.nan_to_num(found["per_class"]["PQ"]), expected[0], atol=1e-6)
    for row, name in enumerate(("PQ", "SQ", "RQ")):
        assert found[name] == pytest.approx(expected[row].mean(), abs=1e-6)
        assert found[f"{name}_things"] == pytest.approx(expected[row, :3].mean(), abs=1e-6)
