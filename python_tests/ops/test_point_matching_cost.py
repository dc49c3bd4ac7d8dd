"""point_matching_cost: against float64, against transformers' matcher, and by what its inputs hold."""

from functools import partial
from typing import Any

import pytest
import torch
from op_checks import LARGEST_ERROR, at_thread_counts, error, native_only
from segments import random_targets
from torch import Tensor
from typed import as_dtype

from maskformer_ext.ops import MaskTargets, SegmentTargets, point_matching_cost

PARTS = ("class_weight", "mask_weight", "dice_weight")


def draw(layers, images, queries, size, count, classes=4) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(8)
    classes_of = torch.randn(*layers, images, queries, classes + 1)
    return classes_of, torch.randn(*layers, images, queries, *size) * 4, torch.rand(*layers, images, count, 2)


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize(
    ("layers", "counts", "queries", "size", "count"),
    [
        ((3,), [5, 0, 3], 4, (9, 13), 50),
        ((2, 1), [3, 2], 19, (6, 7), 33),
        ((), [4], 2, (1, 1), 1),
        ((), [1], 1, (5, 4), 1100),
    ],
)
def test_each_part_is_close_to_float64(kernels, layers, counts, queries, size, count, masks, sampling):
    segments = random_targets(len(counts), counts, 6, (40, 52), 4, void=0.2)
    targets = segments.to_masks() if masks else segments
    classes, logits, points = draw(layers, len(counts), queries, size, count)
    for part in PARTS:
        options: dict[str, Any] = {p: float(p == part) for p in PARTS} | {"sampling": sampling}
        # the points themselves are float32: a segment's border must not move
        truth = point_matching_cost(classes.double(), logits.double(), targets, points, **options)
        ours = kernels.point_matching_cost(classes, logits, targets, points, **options)
        assert ours.dtype == torch.float32
        assert error(ours, truth) <= 2 * LARGEST_ERROR, part


def test_a_query_costs_the_same_alone(kernels):
    targets = random_targets(2, [3, 5], 6, (40, 52), 4)
    classes, logits, points = draw((2,), 2, 5, (9, 13), 70)
    together = kernels.point_matching_cost(classes, logits, targets, points)
    for query in range(5):
        own = slice(query, query + 1)
        alone = kernels.point_matching_cost(classes[:1, :, own], logits[:1, :, own], targets, points[:1])
        assert torch.equal(alone, together[:1, :, own])


def test_many_segments_and_points(kernels):
    """More segments than a GPU's thread sums at once, and more points than it adds in float."""
    targets = random_targets(1, [27], 30, (40, 52), 4)
    classes, logits, points = draw((), 1, 2, (9, 13), 8300)
    truth = point_matching_cost(classes.double(), logits.double(), targets, points)
    assert error(kernels.point_matching_cost(classes, logits, targets, points), truth) <= 2 * LARGEST_ERROR


def test_a_good_match_is_not_a_difference_of_large_sums(kernels):
    targets = random_targets(1, [4], 4, (32, 32), 3, void=0.0, cell=8)
    inside = targets.to_masks().masks.float()
    logits = 40 * inside - 20  # each query is one segment
    centres = (torch.cartesian_prod(torch.arange(32), torch.arange(32)).flip(-1) + 0.5) / 32
    classes = torch.zeros(1, 4, 4)
    options: dict[str, Any] = {"class_weight": 0.0, "mask_weight": 1.0, "dice_weight": 0.0}
    cost = kernels.point_matching_cost(classes, logits, targets, centres[None], **options)
    truth = point_matching_cost(classes.double(), logits.double(), targets, centres[None].double(), **options)
    matched, exact = cost.diagonal(dim1=-2, dim2=-1), truth.diagonal(dim1=-2, dim2=-1)
    assert exact.max() < 1e-8
    assert error(matched, exact) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_logits(kernels, dtype):
    targets = random_targets(2, [5, 3], 5, (40, 52), 4)
    classes, logits, points = draw((2,), 2, 18, (7, 9), 70)
    classes, logits = classes.to(dtype), logits.to(dtype)
    truth = point_matching_cost(classes.double(), logits.double(), targets, points)
    ours = kernels.point_matching_cost(classes, logits, targets, points)
    assert error(ours, truth) <= LARGEST_ERROR


def test_int16_maps_and_float_masks(kernels):
    targets = random_targets(2, [5, 3], 5, (20, 26), 4)
    inputs = draw((), 2, 3, (5, 6), 40)
    expected = kernels.point_matching_cost(*inputs[:2], targets, inputs[2])
    narrow = SegmentTargets(targets.segment_map.short(), targets.labels, targets.num_segments)
    assert torch.equal(kernels.point_matching_cost(*inputs[:2], narrow, inputs[2]), expected)
    masks = targets.to_masks()
    floats = MaskTargets(masks.masks.float(), masks.labels, masks.num_segments)
    for form in (masks, floats):
        torch.testing.assert_close(kernels.point_matching_cost(*inputs[:2], form, inputs[2]), expected)


def test_masks_that_overlap(kernels):
    torch.manual_seed(3)
    masks = torch.rand(2, 6, 12, 12) < 0.5
    targets = MaskTargets(masks, torch.randint(4, (2, 6)), torch.tensor([6, 4]))
    classes, logits, points = draw((2,), 2, 5, (6, 6), 60)
    truth = point_matching_cost(*as_dtype((classes, logits), torch.float64), targets, points)
    assert error(kernels.point_matching_cost(classes, logits, targets, points), truth) <= LARGEST_ERROR


@pytest.mark.parametrize("masks", [False, True])
def test_points_at_and_beyond_the_edges(kernels, masks):
    targets = random_targets(1, [3], 3, (8, 8), 4, void=0.0)
    form = targets.to_masks() if masks else targets
    odd = [(0.0, 0.0), (1.0, 1.0), (0.5, 1.0), (-0.01, 0.5), (1.5, 0.5), (-3.0, 9.0), (1e30, 0.5), (torch.nan, 0.5)]
    points = torch.tensor([*odd, (0.4, torch.inf)])[None]
    classes, logits, _ = draw((), 1, 4, (5, 5), 1)
    logits[..., 0, 0] = 3.0
    truth = point_matching_cost(classes.double(), logits.double(), form, points)
    ours = kernels.point_matching_cost(classes, logits, form, points)
    assert ours.isfinite().all()
    assert error(ours, truth) <= LARGEST_ERROR


@pytest.mark.parametrize("masks", [False, True])
def test_queries_with_bad_numbers_cost_infinity(kernels, masks):
    targets = random_targets(2, [4, 2], 4, (16, 16), 3)
    form = targets.to_masks() if masks else targets
    classes, logits, points = draw((), 2, 20, (8, 8), 50, classes=3)
    points = points * 0.4  # nowhere near the right half
    expected = kernels.point_matching_cost(classes, logits, form, points)
    classes[0, 0, 3], classes[0, 1, 0], classes[0, 2, 1] = torch.nan, torch.inf, -torch.inf
    logits[0, 3, 0, 0], logits[0, 17, 1, 1], logits[0, 5, 7, 7] = torch.nan, -torch.inf, torch.nan
    cost = kernels.point_matching_cost(classes, logits, form, points)
    bad = torch.zeros(2, 20, dtype=torch.bool)
    bad[0, [0, 1, 3, 17]] = True  # -inf class logits are legal, and so is what no point reads
    assert (cost[bad] == torch.inf).all()
    bad[0, 2] = True
    assert torch.equal(cost[~bad], expected[~bad])
    assert cost[0, 2].isfinite().all()


def test_padded_columns_are_zero(kernels):
    targets = random_targets(2, [2, 0], 5, (16, 16), 3)
    classes, logits, points = draw((), 2, 3, (4, 4), 20, classes=3)
    cost = kernels.point_matching_cost(classes, logits, targets, points)
    assert (cost[0, :, 2:] == 0).all()
    assert (cost[1] == 0).all()
    assert (cost[0, :, :2] != 0).all()


def test_costs_and_pairs_of_transformers(kernels, monkeypatch):
    theirs = pytest.importorskip("transformers.models.mask2former.modeling_mask2former")
    solve, found = theirs.linear_sum_assignment, []

    def noted(cost):
        found.append(cost)
        return solve(cost)

    monkeypatch.setattr(theirs, "linear_sum_assignment", noted)
    targets = random_targets(2, [5, 3], 5, (32, 40), 4)
    classes, logits, _ = draw((), 2, 12, (8, 10), 1)
    masks = targets.to_masks().masks.float()
    kept = [masks[b, :n] for b, n in enumerate((5, 3))], [targets.labels[b, :n] for b, n in enumerate((5, 3))]
    torch.manual_seed(5)
    theirs.Mask2FormerHungarianMatcher(2.0, 5.0, 5.0, num_points=200)(logits, classes, *kept)
    torch.manual_seed(5)
    points = torch.cat([torch.rand(1, 200, 2) for _ in range(2)])
    cost = kernels.point_matching_cost(classes, logits, targets, points)
    for image, expected in enumerate(found):
        assert error(cost[image, :, : expected.shape[1]], torch.as_tensor(expected)) <= 2e-6


@pytest.mark.parametrize(
    ("layers", "images", "queries", "count"), [((0,), 1, 3, 4), ((2,), 1, 0, 4), ((), 0, 3, 4), ((), 1, 3, 0)]
)
def test_without_elements_the_shape_is_kept(kernels, layers, images, queries, count):
    targets = random_targets(1, [2], 2, (8, 8), 3)
    if images == 0:
        targets = SegmentTargets(targets.segment_map[:0], targets.labels[:0], targets.num_segments[:0])
    inputs = draw(layers, images, queries, (4, 4), count)
    cost = kernels.point_matching_cost(*inputs[:2], targets, inputs[2])
    assert cost.shape == (*layers, images, queries, 2)
    truth = point_matching_cost(*as_dtype(inputs[:2], torch.float64), targets, inputs[2])
    assert error(cost, truth) <= LARGEST_ERROR


@native_only
def test_threads_do_not_change_a_bit():
    targets = random_targets(3, [9, 0, 5], 9, (60, 90), 6)
    classes, logits, points = draw((4,), 3, 25, (30, 45), 300, classes=6)
    for form in (targets, targets.to_masks()):
        at_thread_counts(partial(point_matching_cost, classes, logits, form, points))


def test_bad_ids_and_labels_are_refused():
    targets = random_targets(1, [3], 3, (16, 16), 3)
    classes, logits, points = draw((), 1, 2, (4, 4), 5, classes=3)
    targets.segment_map[0, 0, 0] = 3
    with pytest.raises(ValueError, match=r"segment_map must hold ids in \[-1, 3\) for image 0"):
        point_matching_cost(classes, logits, targets, points)
    targets.segment_map[0, 0, 0] = 2
    targets.labels[0, 1] = 3
    with pytest.raises(ValueError, match=r"labels must lie in \[0, K\) with K = 3, got 3 for segment 1 of image 0"):
        point_matching_cost(classes, logits, targets, points)


def test_points_need_a_pixel_to_read(kernels):
    targets = random_targets(1, [2], 2, (8, 8), 3)
    classes, logits, points = draw((), 1, 3, (4, 4), 5)
    tensors = targets.segment_map, targets.labels, targets.num_segments, points
    for empty in (logits[..., :0], logits[..., :0, :]):
        with pytest.raises(RuntimeError, match="mask predictions must have a pixel"):
            kernels.native.point_matching_cost(classes, empty, *tensors, 1.0, 1.0, 1.0, 0)


def test_misfitting_arguments_are_named():
    targets = random_targets(2, [3, 2], 3, (16, 16), 3)
    classes, logits, points = draw((), 2, 4, (5, 5), 6)
    for wrong in (points[0], points[:1], points[..., :1], points[None]):
        with pytest.raises(ValueError, match=r"points must be \(\.\.\., B, P, 2\) with"):
            point_matching_cost(classes, logits, targets, wrong)
    with pytest.raises(TypeError, match="points must have a floating dtype"):
        point_matching_cost(classes, logits, targets, points.long())
    with pytest.raises(ValueError, match=r"class_logits must be \(\.\.\., B, Q, K \+ 1\)"):
        point_matching_cost(classes[:, 1:], logits, targets, points)
    with pytest.raises(ValueError, match="mask_logits must be"):
        point_matching_cost(classes[0], logits[0], targets, points[0])
    with pytest.raises(ValueError, match="mask predictions must have at least one pixel"):
        point_matching_cost(classes, logits[..., :0], targets, points)
    without_pixels = SegmentTargets(targets.segment_map[:, :0], targets.labels, targets.num_segments)
    for few in (points, points[:, :0]):
        with pytest.raises(ValueError, match="point_matching_cost: targets must have at least one pixel"):
            point_matching_cost(classes, logits, without_pixels, few)
    with pytest.raises(ValueError, match="sampling must be one of bilinear, nearest"):
        point_matching_cost(classes, logits, targets, points, sampling="cubic")
    with pytest.raises(TypeError, match="mask_weight must be a number"):
        point_matching_cost(classes, logits, targets, points, mask_weight="5")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="targets must hold B = 2 images"):
        point_matching_cost(classes, logits, random_targets(1, [3], 3, (16, 16), 3), points)
    with pytest.raises(TypeError, match="targets must be SegmentTargets or MaskTargets"):
        point_matching_cost(classes, logits, targets.segment_map, points)  # type: ignore[arg-type]


def test_there_is_no_gradient():
    targets = random_targets(1, [3], 3, (16, 16), 3)
    classes, logits, points = draw((), 1, 4, (5, 5), 6)
    assert not point_matching_cost(classes, logits.requires_grad_(), targets, points).requires_grad
