"""matching_cost: the float64 reference, bad numbers, bad targets, threads."""

import importlib
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import LARGEST_ERROR, at_thread_counts, error, native_only
from segments import DEFAULTS, PARTS, random_targets
from typed import as_dtype

from maskformer_ext.ops import MaskTargets, SegmentTargets, matching_cost
from maskformer_ext.ops.support.matching import CostOptions

module = importlib.import_module("maskformer_ext.ops.matching_cost")
nearest_index = module.nearest_index


def reference(class_logits, mask_logits, targets, **options):
    return module.matching_cost_reference(class_logits, mask_logits, targets, CostOptions(**options))


def in_form(targets, form):
    """Return segments as a map of 32 or 16 bits, or as masks."""
    if form == "int16":
        return SegmentTargets(targets.segment_map.short(), targets.labels, targets.num_segments)
    return targets.to_masks() if form == "masks" else targets


@pytest.mark.parametrize(
    ("layers", "images", "queries", "size", "target_size", "counts", "capacity", "classes"),
    [
        ((), 2, 7, (16, 24), (64, 96), [3, 5], 5, 4),
        ((3,), 2, 5, (17, 13), (50, 71), [4, 0], 6, 1),
        ((2, 2), 1, 3, (9, 31), (9, 31), [2], 2, 7),
        ((), 1, 4, (1, 1), (1, 1), [1], 1, 3),
        ((), 1, 4, (1, 1), (7, 5), [2], 2, 3),
        ((), 2, 3, (1, 40), (3, 33), [2, 3], 3, 2),
        ((), 1, 2, (40, 1), (80, 5), [9], 12, 2),
        ((1,), 2, 0, (4, 4), (8, 8), [1, 2], 2, 2),
        ((2,), 2, 3, (4, 4), (8, 8), [0, 0], 0, 2),
        ((), 1, 3, (48, 40), (24, 20), [300], 300, 20),
        ((), 1, 2, (70, 70), (140, 140), [1], 1, 150),
        ((), 1, 3, (40, 33), (40, 33), [9], 9, 4),
        ((), 2, 2, (1, 1), (3, 5), [2, 1], 9, 4),
    ],
)
@pytest.mark.parametrize("ignore_void", [False, True])
@pytest.mark.parametrize("form", ["int32", "int16", "masks"])
def test_each_part_is_close_to_the_float64_reference(
    kernels, layers, images, queries, size, target_size, counts, capacity, classes, ignore_void, form
):
    targets = random_targets(images, counts, capacity, target_size, classes)
    targets = in_form(targets, form)
    class_logits = torch.randn(*layers, images, queries, classes + 1) * 3
    mask_logits = torch.randn(*layers, images, queries, *size) * 6
    weights = [(0.25, 2.0), (-1.0, 0.0), (0.7, 1.5)]
    if kernels.slow:  # which is slow
        if capacity > 100 or (max(target_size) > 100 and form != "int32"):
            pytest.skip("too slow on the host")
        weights = weights[queries % 3 :][:1]
    for alpha, gamma in weights:
        for part in PARTS:
            options = {
                **{p: float(p == part) for p in PARTS},
                "alpha": alpha,
                "gamma": gamma,
                "ignore_void": ignore_void,
            }
            ours = kernels.matching_cost(class_logits, mask_logits, targets, **options)
            truth = reference(class_logits.double(), mask_logits.double(), targets, **options)
            assert ours.dtype == torch.float32
            assert ours.shape == truth.shape == (*layers, images, queries, capacity)
            assert error(ours, truth) <= LARGEST_ERROR, (part, alpha, gamma)


@pytest.mark.parametrize("size", [(24, 40), (20, 21)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_overlapping_masks(kernels, size, dtype):
    size = size if not kernels.slow else (size[0] // 4, size[1] // 4)
    full = 3 * size[0], 3 * size[1]
    masks = torch.rand(2, 6, *full) < 0.4
    masks[0, 2] = False
    masks[1, 3] = True
    void = torch.rand(2, *full) < 0.3
    targets = MaskTargets(masks, torch.randint(0, 5, (2, 6)), torch.tensor([6, 4]), void=void)
    inputs = torch.randn(2, 2, 5, 6).to(dtype), (torch.randn(2, 2, 5, *size) * 4).to(dtype)
    for ignore_void in (False, True):
        for part in PARTS:
            options = {**DEFAULTS, **{p: float(p == part) for p in PARTS}, "ignore_void": ignore_void}
            truth = reference(*as_dtype(inputs, torch.float64), targets, **options)
            assert error(kernels.matching_cost(*inputs, targets, **options), truth) <= LARGEST_ERROR
    floats = MaskTargets(masks.float(), targets.labels, targets.num_segments, void=void)
    assert torch.equal(kernels.matching_cost(*inputs, floats), kernels.matching_cost(*inputs, targets))


@pytest.mark.parametrize("form", ["int32", "masks"])
@pytest.mark.parametrize("ignore_void", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_many_segments_twice_the_same(kernels, form, ignore_void, dtype):
    on_gpu = kernels.large
    full, size = ((256, 200), (64, 50)) if on_gpu else ((64, 50), (16, 13))
    targets = in_form(random_targets(2, [30, 7], 30, full, 9), form)
    inputs = torch.randn(3, 2, 50, 10).to(dtype), 4 * torch.randn(3, 2, 50, *size).to(dtype)
    inputs = inputs if on_gpu else (inputs[0][:1, :, :5], inputs[1][:1, :, :5])
    found = kernels.matching_cost(*inputs, targets, ignore_void=ignore_void)
    truth = reference(*as_dtype(inputs, torch.float64), targets, **{**DEFAULTS, "ignore_void": ignore_void})
    assert error(found, truth) <= LARGEST_ERROR
    assert torch.equal(found, kernels.matching_cost(*inputs, targets, ignore_void=ignore_void))


@pytest.mark.parametrize("ignore_void", [False, True])
def test_overlapping_rectangles(ignore_void):
    """Few sets of masks that share a pixel; nested, equal, empty and whole ones are among them."""
    masks = torch.zeros(1, 40, 64, 64, dtype=torch.bool)
    for t in range(40):
        y, x = torch.randint(0, 48, (2,)).tolist()
        masks[0, t, y : y + 16, x : x + 5 + t % 12] = True
    masks[0, 7] = False
    masks[0, 9] = masks[0, 8]
    masks[0, 11] = True
    masks[0, 20, :40] = True
    masks[0, 21, :30] = True
    void = torch.rand(1, 64, 64) < 0.2
    targets = MaskTargets(masks, torch.zeros(1, 40, dtype=torch.long), torch.tensor([40]), void=void)
    class_logits, mask_logits = torch.randn(1, 11, 3), torch.randn(1, 11, 64, 64) * 4
    for part in PARTS:
        options = {**DEFAULTS, **{p: float(p == part) for p in PARTS}, "ignore_void": ignore_void}
        truth = reference(class_logits.double(), mask_logits.double(), targets, **options)
        assert error(matching_cost(class_logits, mask_logits, targets, **options), truth) <= LARGEST_ERROR


def test_the_outside_of_a_good_match_does_not_cancel(kernels):
    segment_map = torch.zeros(1, 64, 64, dtype=torch.int32)
    segment_map[:, :, 32:] = 1
    targets = SegmentTargets(segment_map, torch.tensor([[0, 1]]), torch.tensor([2]))
    mask_logits = torch.where(segment_map == 0, 12.0, -12.0).unsqueeze(1)
    class_logits = torch.randn(1, 1, 3)
    options = {**DEFAULTS, "class_weight": 0.0, "focal_weight": 1.0, "dice_weight": 0.0}
    ours = kernels.matching_cost(class_logits, mask_logits, targets, **options)[0, 0, 0]
    truth = reference(class_logits.double(), mask_logits.double(), targets, **options)[0, 0, 0]
    assert truth < 1e-14
    assert abs(float(ours) / float(truth) - 1) < 1e-5


@pytest.mark.parametrize("class_dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mask_dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_each_input_may_have_its_own_dtype(class_dtype, mask_dtype):
    targets = random_targets(2, [5, 3], 5, (40, 52), 6)
    class_logits = (torch.randn(2, 2, 8, 7) * 3).to(class_dtype)
    mask_logits = (torch.randn(2, 2, 8, 20, 26) * 200).to(mask_dtype)  # focal sums beyond what 16 bits hold
    ours = matching_cost(class_logits, mask_logits, targets)
    assert ours.dtype == torch.float32
    assert ours.isfinite().all()
    truth = reference(class_logits.double(), mask_logits.double(), targets, **DEFAULTS)
    assert error(ours, truth) <= LARGEST_ERROR
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(matching_cost(class_logits, mask_logits, targets), ours)


def test_float64_inputs_stay_float64():
    targets = random_targets(1, [3], 3, (16, 16), 2)
    class_logits, mask_logits = torch.randn(1, 4, 3, dtype=torch.float64), torch.randn(1, 4, 8, 8)
    assert matching_cost(class_logits, mask_logits, targets).dtype == torch.float64


def test_any_strides_give_the_same_cost():
    targets = random_targets(2, [5, 3], 5, (40, 52), 6)
    class_logits, mask_logits = torch.randn(3, 2, 8, 7), torch.randn(3, 2, 8, 20, 26)
    expected = matching_cost(class_logits, mask_logits, targets)
    strided_classes = class_logits.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    strided_masks = mask_logits.permute(4, 2, 0, 1, 3).contiguous().permute(2, 3, 1, 4, 0)
    strided_map = targets.segment_map.mT.contiguous().mT
    strided = SegmentTargets(strided_map, targets.labels, targets.num_segments)
    assert torch.equal(matching_cost(strided_classes, strided_masks, strided), expected)
    short = SegmentTargets(targets.segment_map.short(), targets.labels, targets.num_segments)
    assert torch.equal(matching_cost(class_logits, mask_logits, short), expected)


def test_padding_is_ignored(kernels):
    targets = random_targets(2, [4, 2], 4, (32, 32), 3)
    class_logits, mask_logits = torch.randn(2, 6, 4), torch.randn(2, 6, 8, 8)
    labels = torch.cat([targets.labels, torch.full((2, 3), -100)], 1)
    labels[1, 2:] = 10**9
    padded = SegmentTargets(targets.segment_map, labels, targets.num_segments)
    cost = kernels.matching_cost(class_logits, mask_logits, padded)
    assert torch.equal(cost[..., :4], kernels.matching_cost(class_logits, mask_logits, targets))
    assert (cost[0, :, 4:] == 0).all()
    assert (cost[1, :, 2:] == 0).all()


def test_void_pixels_do_not_matter_when_ignored(kernels):
    targets = random_targets(1, [4], 4, (24, 24), 3, void=0.3)
    class_logits, mask_logits = torch.randn(1, 6, 4), torch.randn(1, 6, 24, 24)
    changed = torch.where(targets.segment_map.unsqueeze(1) < 0, torch.randn(24, 24) * 9, mask_logits)
    for form in (targets, targets.to_masks()):
        before, after = (
            kernels.matching_cost(class_logits, masks, form, ignore_void=True) for masks in (mask_logits, changed)
        )
        torch.testing.assert_close(before, after, rtol=0, atol=0)
        before, after = (kernels.matching_cost(class_logits, masks, form) for masks in (mask_logits, changed))
        assert not torch.equal(before, after)


@pytest.mark.parametrize("ignore_void", [False, True])
@pytest.mark.parametrize("form", ["int32", "masks"])
def test_queries_with_bad_numbers_cost_infinity(kernels, form, ignore_void):
    targets = random_targets(2, [4, 2], 4, (32, 32), 3)
    targets = in_form(targets, form)
    class_logits, mask_logits = torch.randn(2, 9, 4), torch.randn(2, 9, 8, 8)
    expected = kernels.matching_cost(class_logits, mask_logits, targets, ignore_void=ignore_void)
    class_logits[0, 0, 3] = torch.nan
    class_logits[0, 1, 0] = torch.inf
    class_logits[1, 2] = -torch.inf
    mask_logits[0, 3, 7, 7] = torch.nan
    mask_logits[0, 4, 0, 0] = torch.inf
    mask_logits[1, 5, 3, 3] = -torch.inf
    cost = kernels.matching_cost(class_logits, mask_logits, targets, ignore_void=ignore_void)
    bad = torch.zeros(2, 9, dtype=torch.bool)
    bad[0, [0, 1, 3, 4]] = True
    bad[1, [2, 5]] = True
    assert (cost[0][bad[0]] == torch.inf).all()
    assert (cost[1][bad[1]][:, :2] == torch.inf).all()
    assert (cost[1, :, 2:] == 0).all()
    assert torch.equal(cost[~bad], expected[~bad])


@pytest.mark.cuda_kernels
def test_ids_out_of_range_are_void_and_read_nothing(kernels):
    targets = random_targets(1, [3], 3, (16, 16), 3)
    inputs = torch.randn(1, 2, 4), torch.randn(1, 2, 8, 8)
    wild = targets.segment_map.clone()
    wild[targets.segment_map < 0] = 30000
    expected = kernels.matching_cost(*inputs, targets)
    targets.labels[0, 1] = 10**9
    found = kernels.matching_cost(*inputs, SegmentTargets(wild, targets.labels, targets.num_segments))
    assert torch.equal(found[..., [0, 2]], expected[..., [0, 2]]) and found.isfinite().all()


def test_masked_classes_are_legal(kernels):
    targets = SegmentTargets(torch.zeros(1, 8, 8, dtype=torch.int16), torch.tensor([[1]]), torch.tensor([1]))
    class_logits = torch.tensor([[[-torch.inf, 0.0, -torch.inf, 0.0], [0.0, -torch.inf, 0.0, 0.0]]])
    cost = kernels.matching_cost(class_logits, torch.zeros(1, 2, 4, 4), targets, focal_weight=0.0, dice_weight=0.0)
    torch.testing.assert_close(cost.flatten(), torch.tensor([-0.5, 0.0]))


def test_very_large_logits_stay_finite():
    targets = random_targets(1, [3], 3, (16, 16), 2)
    mask_logits = torch.randn(1, 5, 16, 16) * 1e5
    class_logits = torch.randn(1, 5, 3) * 1e5
    cost = matching_cost(class_logits, mask_logits, targets)
    truth = reference(class_logits.double(), mask_logits.double(), targets, **DEFAULTS)
    assert error(cost, truth) <= LARGEST_ERROR


def test_more_segments_than_queries_and_empty_segments(kernels):
    targets = random_targets(1, [40], 40, (16, 16), 2)
    targets.segment_map[targets.segment_map == 7] = -1
    class_logits, mask_logits = torch.randn(1, 3, 3), torch.randn(1, 3, 16, 16)
    truth = reference(class_logits.double(), mask_logits.double(), targets, **DEFAULTS)
    assert error(kernels.matching_cost(class_logits, mask_logits, targets), truth) <= LARGEST_ERROR


@pytest.mark.parametrize("form", ["int32", "masks"])
def test_a_query_costs_the_same_alone(kernels, form):
    targets = in_form(random_targets(2, [9, 4], 9, (36, 40), 6), form)
    class_logits, mask_logits = torch.randn(2, 2, 5, 7), torch.randn(2, 2, 5, 36, 40) * 5
    mask_logits[0, 1, 2, 20, 20] = torch.nan
    class_logits[1, 0, 3, 1] = torch.inf
    together = kernels.matching_cost(class_logits, mask_logits, targets)
    assert together[0, 1, 2, :4].isinf().all() and together[1, 0, 3].isinf().all()
    assert together.isinf().sum() == 4 + 9
    for query in range(5):
        alone = kernels.matching_cost(
            class_logits[:1, :, query : query + 1], mask_logits[:1, :, query : query + 1], targets
        )
        assert torch.equal(alone, together[:1, :, query : query + 1])


def test_masks_of_several_words(kernels):
    """As many masks as fill two words of bits and begin a third, and more pixels than are added in float at once."""
    masks = torch.rand(1, 50, 92, 92) < 0.3
    targets = MaskTargets(masks, torch.randint(0, 5, (1, 50)), torch.tensor([49]))
    class_logits, mask_logits = torch.randn(1, 2, 6), torch.randn(1, 2, 92, 92) * 4
    truth = reference(class_logits.double(), mask_logits.double(), targets, **DEFAULTS)
    assert error(kernels.matching_cost(class_logits, mask_logits, targets), truth) <= LARGEST_ERROR


def test_nearest_sampling_is_that_of_interpolate():
    for source in (*range(1, 40), 97, 128, 333, 480, 512, 1000):
        for result in (*range(1, 40), 97, 120, 128, 333, 511, 1000):
            positions = torch.arange(source, dtype=torch.float32).view(1, 1, 1, -1)
            expected = F.interpolate(positions, size=(1, result), mode="nearest").flatten().long()
            assert torch.equal(nearest_index(source, result), expected), (source, result)


@pytest.mark.parametrize(("source", "result"), [(97, 33), (33, 97), (1000, 128), (511, 120), (512, 128), (41, 40)])
def test_the_kernel_samples_the_same_pixels(kernels, source, result):
    """Query i is positive at pixel i alone, so that its foreground inside a segment tells who owns that pixel."""
    if kernels.slow and source * result > 2000:
        pytest.skip("too slow on the host")
    segment_map = torch.arange(source, dtype=torch.int32).view(1, 1, source)
    targets = SegmentTargets(segment_map, torch.zeros(1, source, dtype=torch.long), torch.tensor([source]))
    mask_logits = torch.where(torch.eye(result, dtype=torch.bool), 30.0, -30.0).view(1, result, 1, result)
    options = {**DEFAULTS, "class_weight": 0.0, "focal_weight": 0.0}
    cost = kernels.matching_cost(torch.zeros(1, result, 2), mask_logits, targets, **options)[0]
    expected = F.interpolate(segment_map[None].float(), size=(1, result), mode="nearest").flatten().long()
    assert torch.equal(cost.argmin(-1), expected)


def test_compiles_without_graph_breaks():
    @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    def cost(class_logits, mask_logits, segment_map, labels, num_segments):
        return 2 * matching_cost(class_logits, mask_logits, SegmentTargets(segment_map, labels, num_segments))

    for size in (20, 24):
        targets = random_targets(2, [5, 3], 5, (2 * size, 52), 6)
        class_logits, mask_logits = torch.randn(2, 8, 7, requires_grad=True), torch.randn(2, 8, size, 26)
        ours = cost(class_logits, mask_logits, targets.segment_map, targets.labels, targets.num_segments)
        torch.testing.assert_close(ours, 2 * matching_cost(class_logits, mask_logits, targets))


@native_only
def test_threads_do_not_change_a_bit():
    targets = random_targets(3, [9, 0, 5], 9, (60, 90), 6)
    class_logits, mask_logits = torch.randn(2, 3, 25, 7), torch.randn(2, 3, 25, 30, 45) * 5
    for form in (targets, targets.to_masks()):
        at_thread_counts(partial(matching_cost, class_logits, mask_logits, form))
        alone = matching_cost(class_logits[:1, :, 3:4], mask_logits[:1, :, 3:4], form)
        assert torch.equal(alone, matching_cost(class_logits, mask_logits, form)[:1, :, 3:4])


@given(
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=3),
    queries=st.integers(0, 8),
    size=st.tuples(st.integers(1, 40), st.integers(1, 50)),
    target_size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    cell=st.sampled_from([1, 3, 30]),
    form=st.sampled_from(["int32", "int16", "masks"]),
    ignore_void=st.booleans(),
    scale=st.sampled_from([0.0, 1.0, 30.0]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=80, deadline=None)
def test_any_sizes_are_close_to_the_float64_reference(
    counts, queries, size, target_size, cell, form, ignore_void, scale, seed
):
    torch.manual_seed(seed)
    targets = random_targets(len(counts), counts, 12, target_size, 5, cell=cell, void=0.2)
    targets = in_form(targets, form)
    class_logits = torch.randn(len(counts), queries, 6)
    mask_logits = scale * torch.randn(len(counts), queries, *size)
    for part in PARTS:
        options = DEFAULTS | {p: float(p == part) for p in PARTS} | {"ignore_void": ignore_void}
        ours = matching_cost(class_logits, mask_logits, targets, **options)
        truth = reference(class_logits.double(), mask_logits.double(), targets, **options)
        assert error(ours, truth) <= LARGEST_ERROR, part


@pytest.mark.parametrize("form", ["segment_map", "masks"])
@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("shape", [(12, 0), (0, 12), (0, 0)], ids=str)
def test_neither_predictions_nor_targets_have_a_pixel(form, size, shape):
    segments = SegmentTargets(
        torch.zeros(2, *size, dtype=torch.int32), torch.zeros(2, 1, dtype=torch.int64), torch.tensor([0, 1])
    )
    targets = segments.to_masks() if form == "masks" else segments
    cost = matching_cost(torch.zeros(2, 1, 4), torch.zeros(2, 1, *shape), targets, ignore_void=True)
    assert cost.flatten().tolist() == [0.0, -0.25]
