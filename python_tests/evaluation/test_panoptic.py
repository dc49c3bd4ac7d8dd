"""Panoptic quality: cases worked out by hand, and a brute-force matcher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typed import present

from maskformer_ext.evaluation.panoptic import ConstantBaseline, PanopticEvaluator, RegionEvaluator


def _info(**classes: int) -> list[dict[str, int]]:
    return [{"id": int(name[1:]), "category_id": label} for name, label in classes.items()]


def test_pq_of_a_case_worked_out_by_hand() -> None:
    # Class 0 is stuff, 1 a thing. Truth: stuff (6 pixels), two things (4, 2); one pixel void.
    truth = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [2, 2, -1, -1, -1]])
    prediction = np.array([[1, 1, 1, 2, 2], [1, 1, 2, 2, 2], [3, 0, 4, 4, 4]])
    evaluator = PanopticEvaluator(2, [1])
    evaluator.update(prediction, _info(s1=0, s2=1, s3=1, s4=1), truth, [0, 1, 1])
    scores = evaluator.compute()
    # Stuff: IoU 5/6. Thing 1: 4 of 5. Thing 2: IoU exactly 1/2 is no match: one miss, one false positive.
    # Segment 4 lies on void: no false positive.
    assert scores["per_class"]["TP"] == [1, 1]
    assert scores["per_class"]["FP"] == [0, 1]
    assert scores["per_class"]["FN"] == [0, 1]
    assert scores["PQ_stuff"] == pytest.approx(5 / 6)
    assert scores["PQ_things"] == pytest.approx((4 / 5) / 2)
    assert scores["PQ"] == pytest.approx((5 / 6 + 2 / 5) / 2)
    assert scores["SQ"] == pytest.approx((5 / 6 + 4 / 5) / 2)
    assert scores["RQ"] == pytest.approx((1 + 1 / 2) / 2)


def test_void_pixels_do_not_lower_the_iou_of_a_match() -> None:
    truth = np.array([[0, 0, -1, -1]])
    evaluator = PanopticEvaluator(1, [0])
    evaluator.update(np.array([[1, 1, 1, 1]]), _info(s1=0), truth, [0])
    assert evaluator.compute()["PQ"] == 1.0


@pytest.mark.parametrize(("on_void", "false_positives"), [(2, 1), (3, 0)])
def test_only_predictions_mostly_on_void_are_forgiven(on_void: int, false_positives: int) -> None:
    truth = np.array([[-1] * on_void + [0] * 10])
    prediction = np.array([[1] * 4 + [0] * (on_void + 6)])
    evaluator = PanopticEvaluator(2, [1])
    evaluator.update(prediction, _info(s1=1), truth, [0])
    assert evaluator.compute()["per_class"]["FP"] == [0, false_positives]


def test_a_segment_of_another_class_is_no_match() -> None:
    evaluator = PanopticEvaluator(2, [0, 1])
    evaluator.update(np.ones((2, 2), dtype=int), _info(s1=1), np.zeros((2, 2), dtype=int), [0])
    per_class = evaluator.compute()["per_class"]
    assert (per_class["TP"], per_class["FP"], per_class["FN"]) == ([0, 0], [0, 1], [1, 0])


def test_segments_without_pixels_do_not_count() -> None:
    evaluator = PanopticEvaluator(1, [0])
    evaluator.update(np.ones((1, 2), dtype=int), _info(s1=0, s2=0), np.zeros((1, 2), dtype=int), [0, 0])
    assert evaluator.compute()["per_class"]["FN"] == [0]
    assert evaluator.compute()["PQ"] == 1.0


def _brute_force(prediction, classes, truth, labels, num_classes, crowd):
    """Count matches segment by segment, as the definition reads; `classes` is a dict from id to class."""
    counts, iou_sum, matched, found = np.zeros((num_classes, 3), dtype=int), np.zeros(num_classes), set(), set()
    void = truth < 0
    for index, label in enumerate(labels):
        for number, category in classes.items():
            if category != label or crowd[index]:
                continue
            p, t = prediction == number, truth == index
            union = (p | t).sum() - (p & void).sum()
            if t.any() and union and (p & t).sum() / union > 0.5:
                counts[label, 0] += 1
                iou_sum[label] += (p & t).sum() / union
                matched.add(number)
                found.add(index)
    for number, category in classes.items():
        area = (prediction == number).sum()
        excused = void | np.isin(truth, np.flatnonzero(crowd & (labels == category)))
        if area and number not in matched and (excused & (prediction == number)).sum() <= area / 2:
            counts[category, 1] += 1
    for index, label in enumerate(labels):
        counts[label, 2] += int(index not in found and not crowd[index] and (truth == index).any())
    return counts, iou_sum


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(0, 6), st.sampled_from([1, 70_000]))
def test_counts_equal_brute_force(seed: int, num_true: int, num_predicted: int, id_factor: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(-1, num_true, (4, 3)).repeat(3, 0).repeat(3, 1)
    ids = (1 + np.arange(num_predicted)) * id_factor
    similar = np.isin(truth + 1, np.arange(num_predicted + 1)) * (truth + 1) * id_factor
    noise = random.choice([0, *ids], truth.shape)
    prediction = np.where(random.random(truth.shape) < 0.7, similar, noise)
    labels, classes = random.integers(0, 3, num_true), random.integers(0, 3, num_predicted)
    crowd = random.random(num_true) < 0.3
    evaluator = PanopticEvaluator(3, [1, 2])
    infos = [{"id": int(i), "category_id": int(c)} for i, c in zip(ids, classes, strict=True)]
    evaluator.update(torch.from_numpy(prediction), infos, torch.from_numpy(truth), torch.from_numpy(labels), crowd)
    expected = {int(i): int(c) for i, c in zip(ids, classes, strict=True)}
    counts, iou_sum = _brute_force(prediction, expected, truth, labels, 3, crowd)
    np.testing.assert_array_equal(evaluator.counts, counts)
    np.testing.assert_allclose(evaluator.iou_sum, iou_sum)


def test_a_crowd_is_neither_missed_nor_matched() -> None:
    truth = np.array([[0, 0, 0, 1, 1, 1]])
    evaluator = PanopticEvaluator(2, [0, 1])
    evaluator.update(
        np.array([[1, 1, 1, 2, 2, 2]]), _info(s1=0, s2=1), truth, [0, 1], crowd=torch.tensor([False, True])
    )
    per_class = evaluator.compute()["per_class"]
    assert (per_class["TP"], per_class["FP"], per_class["FN"]) == ([1, 0], [0, 0], [0, 0])
    evaluator.update(np.array([[0, 0, 0, 1, 1, 1]]), _info(s1=0), truth, [0, 1], crowd=[False, True])
    per_class = evaluator.compute()["per_class"]  # a crowd of another class excuses nothing
    assert (per_class["FP"], per_class["FN"]) == ([1, 0], [1, 0])
    with pytest.raises(ValueError, match="crowd must be"):
        evaluator.update(np.zeros((1, 6), dtype=int), [], truth, [0, 1], crowd=[True])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_regions_are_scored_as_panoptic_segments_of_whole_classes(seed: int, num_classes: int) -> None:
    random = np.random.default_rng(seed)
    regions, panoptic = RegionEvaluator(num_classes), PanopticEvaluator(num_classes, [])
    for _ in range(3):
        truth = random.integers(0, num_classes + 1, (3, 4)).repeat(2, 0).repeat(2, 1)
        truth = np.where(truth == num_classes, 255, truth)
        noise = random.integers(-1, num_classes + 1, truth.shape)  # also what is no class
        prediction = np.where(random.random(truth.shape) < 0.6, truth, noise)
        regions.update(torch.from_numpy(prediction), torch.from_numpy(truth))
        known = np.where((prediction < 0) | (prediction >= num_classes), -1, prediction)
        infos = [{"id": label + 1, "category_id": label} for label in range(num_classes)]
        segments = np.where(truth == 255, -1, truth)
        panoptic.update(known + 1, infos, segments, np.arange(num_classes))
    found, expected = regions.compute(), panoptic.compute()
    assert str([found[f"{name}_semantic"] for name in ("PQ", "SQ", "RQ")]) == str(
        [expected[name] for name in ("PQ", "SQ", "RQ")]
    )
    assert str(found["per_class"]["PQ_semantic"]) == str(expected["per_class"]["PQ"])


def test_regions_of_unfit_maps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"classes in \[0, 2\) or 255, got values from 0 to 2"):
        RegionEvaluator(2).update(np.zeros((1, 2), dtype=int), np.array([[0, 2]]))
    with pytest.raises(ValueError, match="size of truth"):
        RegionEvaluator(2).update(np.zeros((1, 2), dtype=int), np.zeros((2, 1), dtype=int))


def test_merged_states_equal_one_evaluator() -> None:
    random = np.random.default_rng(3)
    whole, parts = PanopticEvaluator(2, [1]), [PanopticEvaluator(2, [1]) for _ in range(2)]
    for index in range(4):
        prediction, truth = random.integers(0, 3, (6, 6)), random.integers(-1, 2, (6, 6))
        arguments = (prediction, _info(s1=0, s2=1), truth, [0, 1])
        whole.update(*arguments)
        parts[index % 2].update(*arguments)
    parts[0].merge(parts[1].state())
    assert str(parts[0].compute()) == str(whole.compute())  # as text, for NaN equals NaN there


def test_baseline_is_the_best_single_stuff_class() -> None:
    # 7 of 10 pixels are class 0, 2 are class 1 (stuff both), one a thing.
    truth = np.array([[0] * 7 + [1] * 2 + [2]])
    baseline = ConstantBaseline(3, [2])
    baseline.update(truth, [0, 1, 2])
    label, score = present(baseline.compute())
    assert label == 0
    assert score == pytest.approx(0.7 / 3)
    evaluator = PanopticEvaluator(3, [2])
    evaluator.update(np.ones((1, 10), dtype=int), _info(s1=0), truth, [0, 1, 2])
    assert evaluator.compute()["PQ"] == pytest.approx(score)


@pytest.mark.parametrize(
    ("prediction", "infos", "truth", "labels", "message"),
    [
        (np.ones((2, 2)), _info(s1=0), np.zeros((2, 3)), [0], "segment_map's size"),
        (np.full((2, 2), 5), _info(s1=0), np.zeros((2, 2)), [0], r"does not list: \[5\]"),
        (np.ones((2, 2)), _info(s1=7), np.zeros((2, 2)), [0], r"category_id must be in \[0, 2\)"),
        (np.ones((2, 2)), _info(s1=0), np.ones((2, 2)), [0], r"indices in \[-1, 1\)"),
        (np.ones((2, 2)), [*_info(s1=0), *_info(s1=1)], np.zeros((2, 2)), [0], "positive and different"),
    ],
)
def test_unfit_arguments_are_refused(prediction, infos, truth, labels, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PanopticEvaluator(2, [1]).update(prediction.astype(int), infos, truth.astype(int), labels)
