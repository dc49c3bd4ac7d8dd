"""box_matching_cost: the float64 reference, numbers that are not finite, padding, groups, threads."""

from __future__ import annotations

import importlib
from functools import partial

import pytest
import torch
from op_checks import LARGEST_ERROR, at_thread_counts, error
from torch import Tensor

from maskformer_ext.ops import BoxTargets, box_matching_cost, linear_sum_assignment

module = importlib.import_module("maskformer_ext.ops.box_matching_cost")
WEIGHTS = ("class_weight", "box_weight", "giou_weight")


def reference(logits: Tensor, boxes: Tensor, targets: BoxTargets, **options) -> Tensor:
    wide = BoxTargets(targets.boxes.double(), targets.labels, targets.num_segments)
    return module.box_matching_cost_reference(logits.double(), boxes.double(), wide, module.BoxCostOptions(**options))


def random_boxes(*shape: int, size: float = 0.4) -> Tensor:
    return torch.cat([torch.rand(*shape, 2), torch.rand(*shape, 2) * size + 1e-3], -1)


def random_targets(counts: list[int], capacity: int, classes: int) -> BoxTargets:
    images = len(counts)
    labels = torch.randint(0, classes, (images, capacity))
    return BoxTargets(random_boxes(images, capacity), labels, torch.tensor(counts, dtype=torch.int64))


def only(weight: str, **options) -> dict:
    return {**{name: float(name == weight) for name in WEIGHTS}, **options}


@pytest.mark.parametrize(
    ("layers", "images", "queries", "counts", "capacity", "classes"),
    [
        ((), 2, 7, [3, 5], 5, 4),
        ((3,), 2, 5, [4, 0], 6, 1),
        ((2, 2), 1, 3, [2], 2, 80),
        ((), 1, 40, [33], 40, 600),
        ((), 1, 2, [16], 16, 16),
        ((1,), 2, 0, [1, 2], 2, 2),
        ((2,), 2, 3, [0, 0], 0, 2),
        ((2,), 0, 3, [], 4, 2),
    ],
)
@pytest.mark.parametrize("class_cost", ["focal", "softmax"])
def test_each_part_is_close_to_the_float64_reference(
    kernels, layers, images, queries, counts, capacity, classes, class_cost
):
    targets = random_targets(counts, capacity, classes)
    logits, boxes = torch.randn(*layers, images, queries, classes) * 5, random_boxes(*layers, images, queries)
    for alpha, gamma in ((0.25, 2.0), (-1.0, 0.0), (0.7, 1.5)):
        for weight in WEIGHTS:
            options = only(weight, class_cost=class_cost, alpha=alpha, gamma=gamma)
            ours = kernels.box_matching_cost(logits, boxes, targets, **options)
            truth = reference(logits, boxes, targets, **options)
            assert ours.dtype == torch.float32
            assert ours.shape == truth.shape == (*layers, images, queries, capacity)
            assert error(ours, truth) <= LARGEST_ERROR, (weight, alpha, gamma)


@pytest.mark.parametrize("logits_dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("boxes_dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_each_input_may_have_its_own_dtype(kernels, logits_dtype, boxes_dtype):
    targets = random_targets([5, 3], 5, 6)
    logits, boxes = (torch.randn(2, 2, 8, 6) * 4).to(logits_dtype), random_boxes(2, 2, 8).to(boxes_dtype)
    for class_cost in ("focal", "softmax"):
        ours = kernels.box_matching_cost(logits, boxes, targets, class_cost=class_cost)
        assert ours.dtype == torch.float32
        assert error(ours, reference(logits, boxes, targets, class_cost=class_cost)) <= LARGEST_ERROR


def test_small_boxes_keep_their_digits(kernels):
    """From corners in float32, boxes of a few thousandths of the image would lose four digits."""
    boxes = random_boxes(1, 20, size=0.002)
    targets = BoxTargets(boxes[:, :6] + 1e-3, torch.zeros(1, 6).long(), torch.tensor([6]))
    options = only("giou_weight")
    ours = kernels.box_matching_cost(torch.zeros(1, 20, 1), boxes, targets, **options)
    truth = reference(torch.zeros(1, 20, 1), boxes, targets, **options)
    overlapping = truth < 0.9
    assert overlapping.any()
    assert float((ours - truth)[overlapping].abs().max()) < 2e-6


def test_large_logits_reach_the_limit_of_the_epsilon(kernels):
    logits = torch.tensor([-torch.inf, -1e4, -90.0, -18.0, 18.0, 90.0, 1e4, torch.inf]).view(1, 8, 1)
    targets = BoxTargets(torch.full((1, 1, 4), 0.5), torch.zeros(1, 1).long(), torch.tensor([1]))
    for alpha, gamma in ((0.25, 2.0), (0.25, 0.0), (0.25, 0.5)):
        options = only("class_weight", alpha=alpha, gamma=gamma)
        ours = kernels.box_matching_cost(logits, torch.full((1, 8, 4), 0.5), targets, **options)
        assert ours.isfinite().all()
        assert error(ours, reference(logits, torch.full((1, 8, 4), 0.5), targets, **options)) <= LARGEST_ERROR


def test_pairs_whose_cost_is_not_finite_cost_infinity(kernels):
    targets = random_targets([3, 2], 4, 5)
    targets.labels[:] = torch.tensor([0, 1, 2, 3])
    targets.boxes[1, 1] = torch.tensor([0.5, 0.5, 0.0, 0.0])
    logits, boxes = torch.randn(2, 6, 5), random_boxes(2, 6)
    expected = kernels.box_matching_cost(logits, boxes, targets)
    logits[0, 0, 1] = torch.nan
    boxes[0, 1, 0] = torch.nan
    boxes[0, 2, 2] = torch.inf
    boxes[1, 3, 1] = -torch.inf
    boxes[1, 4] = torch.tensor([0.5, 0.5, 0.0, 0.0])  # beside a box without area too: the union is empty
    forbidden = torch.zeros(2, 6, 4, dtype=torch.bool)
    forbidden[0, 0, 1] = forbidden[0, 1:3, :3] = forbidden[1, 3, :2] = forbidden[1, 4, 1] = True
    cost = kernels.box_matching_cost(logits, boxes, targets)
    assert torch.equal(cost == torch.inf, forbidden)
    untouched = ~forbidden
    untouched[1, 4] = False
    assert torch.equal(cost[untouched], expected[untouched])
    assert (cost[0, :, 3:] == 0).all() and (cost[1, :, 2:] == 0).all()


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_a_softmax_that_is_undefined_forbids_the_query(kernels, wrong):
    targets, boxes = random_targets([3], 3, 3), random_boxes(1, 4)
    logits = torch.randn(1, 4, 5)
    logits[0, 0, 4] = wrong
    logits[0, 1] = -torch.inf
    logits[0, 2, 4] = -torch.inf  # a masked class is legal
    cost = kernels.box_matching_cost(logits, boxes, targets, class_cost="softmax")
    assert (cost[0, :2] == torch.inf).all() and cost[0, 2:].isfinite().all()
    assert error(cost[:, 2:], reference(logits, boxes, targets, class_cost="softmax")[:, 2:]) <= LARGEST_ERROR


def test_padding_is_ignored(kernels):
    targets, logits, boxes = random_targets([4, 2], 4, 3), torch.randn(2, 6, 3), random_boxes(2, 6)
    labels = torch.cat([targets.labels, torch.full((2, 3), -100)], 1)
    labels[1, 2:] = 10**9
    wild = torch.cat([targets.boxes, torch.full((2, 3, 4), torch.nan)], 1)
    wild[1, 2:] = torch.nan
    cost = kernels.box_matching_cost(logits, boxes, BoxTargets(wild, labels, targets.num_segments))
    assert torch.equal(cost[..., :4], kernels.box_matching_cost(logits, boxes, targets))
    assert (cost[0, :, 4:] == 0).all() and (cost[1, :, 2:] == 0).all()


@pytest.mark.cuda_kernels
def test_values_out_of_range_read_nothing(kernels):
    targets, logits, boxes = random_targets([3], 3, 4), torch.randn(1, 2, 4), random_boxes(1, 2)
    expected = kernels.box_matching_cost(logits, boxes, targets)
    for label in (10**12, -1, 4):
        targets.labels[0, 1] = label
        found = kernels.box_matching_cost(logits, boxes, targets)
        assert torch.equal(found[..., [0, 2]], expected[..., [0, 2]]) and (found[..., 1] == torch.inf).all()
    targets.labels[0, 1] = 0
    counts = [torch.tensor([count]) for count in (-5, 100)]
    none, all_of_them = (
        kernels.box_matching_cost(logits, boxes, BoxTargets(targets.boxes, targets.labels, count)) for count in counts
    )
    assert (none == 0).all() and all_of_them.isfinite().all()


def test_groups_of_queries_are_problems_of_their_own():
    targets, logits, boxes = random_targets([4, 6], 6, 3), torch.randn(2, 3 * 8, 3), random_boxes(2, 3 * 8)
    cost = box_matching_cost(logits, boxes, targets).unflatten(-2, (3, 8))
    query = linear_sum_assignment(cost, targets.num_segments[:, None])
    for group in range(3):
        rows = slice(8 * group, 8 * group + 8)
        alone = linear_sum_assignment(box_matching_cost(logits[:, rows], boxes[:, rows], targets), targets.num_segments)
        assert torch.equal(query[:, group], alone)


def test_threads_and_strides_change_no_bit():
    targets, logits, boxes = random_targets([40, 33], 40, 50), torch.randn(3, 2, 300, 50), random_boxes(3, 2, 300)
    strided = [x.permute(3, 2, 0, 1).contiguous().permute(2, 3, 1, 0) for x in (logits, boxes)]
    for class_cost in ("focal", "softmax"):
        call = partial(box_matching_cost, targets=targets, class_cost=class_cost)
        at_thread_counts(partial(call, logits, boxes))
        assert torch.equal(call(strided[0], strided[1]), call(logits, boxes))


def test_float64_inputs_stay_float64():
    targets, logits, boxes = random_targets([3], 3, 2), torch.randn(1, 4, 2), random_boxes(1, 4)
    wide = BoxTargets(targets.boxes.double(), targets.labels, targets.num_segments)
    for inputs in ((logits.double(), boxes, targets), (logits, boxes.double(), targets), (logits, boxes, wide)):
        cost = box_matching_cost(*inputs)
        assert cost.dtype == torch.float64
        assert error(cost, reference(logits, boxes, targets)) < 1e-14


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"logits": torch.zeros(5, 4)}, ValueError, r"logits must be \(\.\.\., B, Q, C\) with C >= 1, got \(5, 4\)"),
        ({"logits": torch.zeros(2, 5, 0)}, ValueError, r"logits must be \(\.\.\., B, Q, C\) with C >= 1"),
        ({"boxes": torch.zeros(2, 4, 4)}, ValueError, r"boxes must be \(\.\.\., B, Q, 4\) .* \(2, 5\), as logits, got"),
        ({"boxes": torch.zeros(2, 5, 5)}, ValueError, r"boxes must be \(\.\.\., B, Q, 4\)"),
        ({"targets": random_targets([1], 3, 4)}, ValueError, "targets must hold B = 2 images, got 1"),
        ({"targets": [{}]}, TypeError, "targets must be BoxTargets, got list"),
        ({"class_cost": "sigmoid"}, ValueError, "class_cost must be one of focal, softmax, got 'sigmoid'"),
    ],
)
def test_misfitting_arguments_are_named(change, kind, message):
    fitting = {"logits": torch.zeros(2, 5, 4), "boxes": torch.zeros(2, 5, 4), "targets": random_targets([3, 1], 3, 4)}
    with pytest.raises(kind, match=f"^box_matching_cost: {message}"):
        box_matching_cost(**{**fitting, **change})


@pytest.mark.parametrize(
    ("labels", "counts", "message"),
    [
        ([[0, 4, 0], [0, 0, 0]], [3, 1], r"labels must lie in \[0, K\) with K = 4, got 4 for segment 1 of image 0"),
        ([[0, 0, 0], [-1, 0, 0]], [3, 1], r"labels must lie in \[0, K\) with K = 4, got -1"),
        ([[0, 0, 0], [0, 0, 0]], [4, 1], r"num_segments must lie in \[0, T\] with T = 3, got \[4, 1\]"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_out_of_range_are_refused(labels, counts, message, dtype):
    targets = BoxTargets(random_boxes(2, 3), torch.tensor(labels), torch.tensor(counts, dtype=torch.int64))
    with pytest.raises(ValueError, match=f"^box_matching_cost: targets.{message}"):
        box_matching_cost(torch.zeros(2, 5, 4, dtype=dtype), random_boxes(2, 5), targets)
