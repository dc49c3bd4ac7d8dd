"""matching_cost: golden costs, the float64 reference, bad numbers, bad targets, threads."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import LARGEST_ERROR, at_thread_counts, error, native_only

from maskformer_ext.ops import MaskTargets, SegmentTargets, matching_cost

reference = importlib.import_module("maskformer_ext.ops.matching_cost").matching_cost_reference
nearest_index = importlib.import_module("maskformer_ext.ops.matching_cost").nearest_index

PARTS = ("class_weight", "focal_weight", "dice_weight")
DEFAULTS = dict(class_weight=1.0, focal_weight=20.0, dice_weight=1.0, alpha=0.25, gamma=2.0, ignore_void=False)


def random_targets(
    images: int,
    counts: list[int],
    capacity: int,
    size: tuple[int, int],
    classes: int,
    *,
    void: float = 0.1,
    cell: int = 4,
) -> SegmentTargets:
    """Blocky random maps, so that segments have runs of several pixels; some segments may be empty."""
    height, width = size
    maps = torch.full((images, height, width), -1, dtype=torch.int32)
    for image, count in enumerate(counts):
        if count:
            blocks = torch.randint(0, count, (-(-height // cell), -(-width // cell)))
            pixels = blocks.repeat_interleave(cell, 0).repeat_interleave(cell, 1)[:height, :width].int()
            maps[image] = torch.where(torch.rand(height, width) < void, -1, pixels)
    return SegmentTargets(maps, torch.randint(0, classes, (images, capacity)), torch.tensor(counts))


def golden_cases(golden_dir: Path) -> tuple[dict, dict]:
    arrays = dict(np.load(golden_dir / "criterion.npz"))
    cases = json.loads((golden_dir / "criterion.json").read_text())
    return arrays, {name: case for name, case in cases.items() if "target_counts" in case}


def golden_inputs(arrays: dict, name: str, case: dict) -> tuple[torch.Tensor, torch.Tensor, MaskTargets]:
    class_logits = torch.from_numpy(arrays[f"{name}/pred_logits"]).float()
    mask_logits = torch.from_numpy(arrays[f"{name}/pred_masks"]).float()
    masks = [torch.from_numpy(arrays[f"{name}/target{b}/masks"]) for b in range(case["B"])]
    labels = [torch.from_numpy(arrays[f"{name}/target{b}/labels"]).long() for b in range(case["B"])]
    return class_logits, mask_logits, MaskTargets.from_masks(masks, labels)


def test_golden_costs_and_their_parts(golden_dir):
    arrays, cases = golden_cases(golden_dir)
    compared = 0
    for name, case in cases.items():
        class_logits, mask_logits, targets = golden_inputs(arrays, name, case)
        only = {
            part: matching_cost(class_logits, mask_logits, targets, **{p: float(p == part) for p in PARTS})
            for part in PARTS
        }
        costs = {
            "total": matching_cost(class_logits, mask_logits, targets),
            "class": only["class_weight"],
            "mask": only["focal_weight"],
            "dice": only["dice_weight"],
        }
        for layer, layer_name in enumerate(case["layer_order"]):
            for image, count in enumerate(case["target_counts"]):
                for part, cost in costs.items():
                    expected = arrays.get(f"{name}/cost_{part}/{layer_name}/{image}")
                    if expected is None:
                        continue
                    ours = cost[layer, image, :, :count].numpy()
                    np.testing.assert_allclose(ours, expected.reshape(ours.shape), rtol=1e-5, atol=1e-5)
                    assert (cost[layer, image, :, count:] == 0).all()
                    compared += 1
    assert compared > 40


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
    ],
)
@pytest.mark.parametrize("ignore_void", [False, True])
@pytest.mark.parametrize("form", ["segment_map", "masks"])
def test_each_part_is_close_to_the_float64_reference(
    layers, images, queries, size, target_size, counts, capacity, classes, ignore_void, form
):
    targets = random_targets(images, counts, capacity, target_size, classes)
    targets = targets.to_masks() if form == "masks" else targets
    class_logits = torch.randn(*layers, images, queries, classes + 1) * 3
    mask_logits = torch.randn(*layers, images, queries, *size) * 6
    for alpha, gamma in ((0.25, 2.0), (-1.0, 0.0), (0.7, 1.5)):
        for part in PARTS:
            options = {
                **{p: float(p == part) for p in PARTS},
                "alpha": alpha,
                "gamma": gamma,
                "ignore_void": ignore_void,
            }
            ours = matching_cost(class_logits, mask_logits, targets, **options)
            truth = reference(class_logits.double(), mask_logits.double(), targets, **options)
            assert ours.dtype == torch.float32
            assert ours.shape == truth.shape == (*layers, images, queries, capacity)
            assert error(ours, truth) <= LARGEST_ERROR, (part, alpha, gamma)


@pytest.mark.parametrize(("height", "width"), [(24, 40), (32, 32)])
def test_overlapping_masks(height, width):
    masks = torch.rand(2, 6, 3 * height, 3 * width) < 0.4
    masks[0, 2] = False
    masks[1, 3] = True
    void = torch.rand(2, 3 * height, 3 * width) < 0.3
    targets = MaskTargets(masks, torch.randint(0, 5, (2, 6)), torch.tensor([6, 4]), void=void)
    class_logits, mask_logits = torch.randn(2, 2, 9, 6), torch.randn(2, 2, 9, height, width) * 4
    for ignore_void in (False, True):
        for part in PARTS:
            options = {**DEFAULTS, **{p: float(p == part) for p in PARTS}, "ignore_void": ignore_void}
            truth = reference(class_logits.double(), mask_logits.double(), targets, **options)
            assert error(matching_cost(class_logits, mask_logits, targets, **options), truth) <= LARGEST_ERROR
    floats = MaskTargets(masks.float(), targets.labels, targets.num_segments, void=void)
    assert torch.equal(
        matching_cost(class_logits, mask_logits, floats), matching_cost(class_logits, mask_logits, targets)
    )


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


def test_the_outside_of_a_good_match_does_not_cancel():
    segment_map = torch.zeros(1, 64, 64, dtype=torch.int32)
    segment_map[:, :, 32:] = 1
    targets = SegmentTargets(segment_map, torch.tensor([[0, 1]]), torch.tensor([2]))
    mask_logits = torch.where(segment_map == 0, 12.0, -12.0).unsqueeze(1)
    class_logits = torch.randn(1, 1, 3)
    options = {**DEFAULTS, "class_weight": 0.0, "focal_weight": 1.0, "dice_weight": 0.0}
    ours = matching_cost(class_logits, mask_logits, targets, **options)[0, 0, 0]
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


def test_padding_is_ignored():
    targets = random_targets(2, [4, 2], 4, (32, 32), 3)
    class_logits, mask_logits = torch.randn(2, 6, 4), torch.randn(2, 6, 8, 8)
    labels = torch.cat([targets.labels, torch.full((2, 3), -100)], 1)
    labels[1, 2:] = 10**9
    padded = SegmentTargets(targets.segment_map, labels, targets.num_segments)
    cost = matching_cost(class_logits, mask_logits, padded)
    assert torch.equal(cost[..., :4], matching_cost(class_logits, mask_logits, targets))
    assert (cost[0, :, 4:] == 0).all()
    assert (cost[1, :, 2:] == 0).all()


def test_void_pixels_do_not_matter_when_ignored():
    targets = random_targets(1, [4], 4, (24, 24), 3, void=0.3)
    class_logits, mask_logits = torch.randn(1, 6, 4), torch.randn(1, 6, 24, 24)
    changed = torch.where(targets.segment_map.unsqueeze(1) < 0, torch.randn(24, 24) * 9, mask_logits)
    for form in (targets, targets.to_masks()):
        before, after = (matching_cost(class_logits, masks, form, ignore_void=True) for masks in (mask_logits, changed))
        torch.testing.assert_close(before, after, rtol=0, atol=0)
        before, after = (matching_cost(class_logits, masks, form) for masks in (mask_logits, changed))
        assert not torch.equal(before, after)


@pytest.mark.parametrize("form", ["segment_map", "masks"])
def test_queries_with_bad_numbers_cost_infinity(form):
    targets = random_targets(2, [4, 2], 4, (32, 32), 3)
    targets = targets.to_masks() if form == "masks" else targets
    class_logits, mask_logits = torch.randn(2, 9, 4), torch.randn(2, 9, 8, 8)
    expected = matching_cost(class_logits, mask_logits, targets)
    class_logits[0, 0, 3] = torch.nan
    class_logits[0, 1, 0] = torch.inf
    class_logits[1, 2] = -torch.inf
    mask_logits[0, 3, 7, 7] = torch.nan
    mask_logits[0, 4, 0, 0] = torch.inf
    mask_logits[1, 5, 3, 3] = -torch.inf
    cost = matching_cost(class_logits, mask_logits, targets)
    bad = torch.zeros(2, 9, dtype=torch.bool)
    bad[0, [0, 1, 3, 4]] = True
    bad[1, [2, 5]] = True
    assert (cost[0][bad[0]] == torch.inf).all()
    assert (cost[1][bad[1]][:, :2] == torch.inf).all()
    assert (cost[1, :, 2:] == 0).all()
    assert torch.equal(cost[~bad], expected[~bad])


def test_masked_classes_are_legal():
    targets = SegmentTargets(torch.zeros(1, 8, 8, dtype=torch.int16), torch.tensor([[1]]), torch.tensor([1]))
    class_logits = torch.tensor([[[-torch.inf, 0.0, -torch.inf, 0.0], [0.0, -torch.inf, 0.0, 0.0]]])
    cost = matching_cost(class_logits, torch.zeros(1, 2, 4, 4), targets, focal_weight=0.0, dice_weight=0.0)
    torch.testing.assert_close(cost.flatten(), torch.tensor([-0.5, 0.0]))


def test_very_large_logits_stay_finite():
    targets = random_targets(1, [3], 3, (16, 16), 2)
    mask_logits = torch.randn(1, 5, 16, 16) * 1e5
    class_logits = torch.randn(1, 5, 3) * 1e5
    cost = matching_cost(class_logits, mask_logits, targets)
    truth = reference(class_logits.double(), mask_logits.double(), targets, **DEFAULTS)
    assert error(cost, truth) <= LARGEST_ERROR


def test_more_segments_than_queries_and_empty_segments():
    targets = random_targets(1, [40], 40, (16, 16), 2)
    targets.segment_map[targets.segment_map == 7] = -1
    class_logits, mask_logits = torch.randn(1, 3, 3), torch.randn(1, 3, 16, 16)
    truth = reference(class_logits.double(), mask_logits.double(), targets, **DEFAULTS)
    assert error(matching_cost(class_logits, mask_logits, targets), truth) <= LARGEST_ERROR


def test_nearest_sampling_is_that_of_interpolate():
    for source in (*range(1, 40), 97, 128, 333, 480, 512, 1000):
        for result in (*range(1, 40), 97, 120, 128, 333, 511, 1000):
            positions = torch.arange(source, dtype=torch.float32).view(1, 1, 1, -1)
            expected = F.interpolate(positions, size=(1, result), mode="nearest").flatten().long()
            assert torch.equal(nearest_index(source, result), expected), (source, result)


@pytest.mark.parametrize(("source", "result"), [(97, 33), (33, 97), (1000, 128), (511, 120), (512, 128), (41, 40)])
def test_the_kernel_samples_the_same_pixels(source, result):
    """Query i is positive at pixel i alone, so that its foreground inside a segment tells who owns that pixel."""
    segment_map = torch.arange(source, dtype=torch.int32).view(1, 1, source)
    targets = SegmentTargets(segment_map, torch.zeros(1, source, dtype=torch.long), torch.tensor([source]))
    mask_logits = torch.where(torch.eye(result, dtype=torch.bool), 30.0, -30.0).view(1, result, 1, result)
    options = {**DEFAULTS, "class_weight": 0.0, "focal_weight": 0.0}
    cost = matching_cost(torch.zeros(1, result, 2), mask_logits, targets, **options)[0]
    expected = F.interpolate(segment_map[None].float(), size=(1, result), mode="nearest").flatten().long()
    assert torch.equal(cost.argmin(-1), expected)


@native_only
@pytest.mark.parametrize("form", ["segment_map", "masks"])
def test_opcheck(form):
    targets = random_targets(2, [5, 3], 5, (40, 52), 6)
    pixels = targets.segment_map if form == "segment_map" else targets.to_masks().masks
    void = None if form == "segment_map" else targets.segment_map < 0
    arguments = (torch.randn(3, 2, 8, 7), torch.randn(3, 2, 8, 20, 26), pixels, targets.labels, targets.num_segments)
    torch.library.opcheck(torch.ops.maskformer_ext.matching_cost, (*arguments, void, 1.0, 20.0, 1.0, 0.25, 2.0, True))


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
        at_thread_counts(lambda form=form: matching_cost(class_logits, mask_logits, form))
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
    if form == "int16":
        targets = SegmentTargets(targets.segment_map.short(), targets.labels, targets.num_segments)
    targets = targets.to_masks() if form == "masks" else targets
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
    targets = SegmentTargets(
        torch.zeros(2, *size, dtype=torch.int32), torch.zeros(2, 1, dtype=torch.int64), torch.tensor([0, 1])
    )
    targets = targets.to_masks() if form == "masks" else targets
    cost = matching_cost(torch.zeros(2, 1, 4), torch.zeros(2, 1, *shape), targets, ignore_void=True)
    assert cost.flatten().tolist() == [0.0, -0.25]
