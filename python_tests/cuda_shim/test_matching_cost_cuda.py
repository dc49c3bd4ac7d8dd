"""The CUDA kernels of the matching cost against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from conftest import cuda_kernels_only
from op_checks import error
from test_matching_cost import DEFAULTS, PARTS, random_targets, reference

from maskformer_ext.ops import MaskTargets, SegmentTargets

OPTIONS = tuple(DEFAULTS)


def cost(shim, class_logits, mask_logits, targets, **options):
    options = {**DEFAULTS, **options}
    pixels = targets.segment_map if isinstance(targets, SegmentTargets) else targets.masks
    void = None if isinstance(targets, SegmentTargets) or not options["ignore_void"] else targets.void
    return shim.matching_cost(
        class_logits, mask_logits, pixels, targets.labels, targets.num_segments, void, *(options[o] for o in OPTIONS)
    )


@pytest.mark.parametrize("form", ["int32", "int16", "masks"])
@pytest.mark.parametrize("ignore_void", [False, True])
@pytest.mark.parametrize(
    ("layers", "counts", "queries", "size", "target_size"),
    [((2,), [5, 0, 3], 4, (17, 13), (50, 71)), ((), [9], 3, (40, 33), (40, 33)), ((), [2, 1], 2, (1, 1), (3, 5))],
)
def test_each_part_is_close_to_float64(shim, form, ignore_void, layers, counts, queries, size, target_size):
    targets = random_targets(len(counts), counts, 9, target_size, 4, void=0.2)
    if form == "int16":
        targets = SegmentTargets(targets.segment_map.short(), targets.labels, targets.num_segments)
    targets = targets.to_masks() if form == "masks" else targets
    class_logits = torch.randn(*layers, len(counts), queries, 5)
    mask_logits = 4 * torch.randn(*layers, len(counts), queries, *size)
    for part in PARTS:
        for alpha, gamma in ((0.25, 2.0), (-1.0, 0.0), (0.7, 1.5)):
            options = {p: float(p == part) for p in PARTS}
            options |= {"alpha": alpha, "gamma": gamma, "ignore_void": ignore_void}
            ours = cost(shim, class_logits, mask_logits, targets, **options)
            truth = reference(class_logits.double(), mask_logits.double(), targets, **{**DEFAULTS, **options})
            assert error(ours, truth) <= 2e-6, (part, alpha, gamma)


def test_overlapping_masks_and_half_precision(shim):
    masks = torch.rand(2, 6, 37, 45) < 0.4
    targets = MaskTargets(masks, torch.randint(4, (2, 6)), torch.tensor([6, 2]), torch.rand(2, 37, 45) < 0.1)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        class_logits, mask_logits = torch.randn(2, 3, 5).to(dtype), torch.randn(2, 3, 20, 21).to(dtype)
        for ignore_void in (False, True):
            ours = cost(shim, class_logits, mask_logits, targets, ignore_void=ignore_void)
            options = {**DEFAULTS, "ignore_void": ignore_void}
            truth = reference(class_logits.double(), mask_logits.double(), targets, **options)
            assert error(ours, truth) <= 2e-6


@pytest.mark.parametrize("form", ["map", "masks"])
@pytest.mark.parametrize("ignore_void", [False, True])
def test_queries_with_bad_numbers_cost_infinity(shim, form, ignore_void):
    targets = random_targets(1, [3], 4, (16, 16), 3, void=0.3)
    targets = targets.to_masks() if form == "masks" else targets
    class_logits, mask_logits = torch.randn(1, 6, 4), torch.randn(1, 6, 16, 16)
    class_logits[0, 0, 1], class_logits[0, 1, 3], class_logits[0, 2, 0] = torch.nan, torch.inf, -torch.inf
    mask_logits[0, 3, 15, 15], mask_logits[0, 4, 0, 0] = torch.nan, -torch.inf
    found = cost(shim, class_logits, mask_logits, targets, ignore_void=ignore_void)
    assert (found[0, :, :3].isinf().all(1) == torch.tensor([True, True, False, True, True, False])).all()
    assert (found[0, [2, 5]].isfinite()).all() and (found[0, :, 3] == 0).all()


@cuda_kernels_only
def test_ids_out_of_range_are_void_and_read_nothing(shim):
    targets = random_targets(1, [3], 3, (16, 16), 3)
    class_logits, mask_logits = torch.randn(1, 2, 4), torch.randn(1, 2, 8, 8)
    wild = targets.segment_map.clone()
    wild[targets.segment_map < 0] = 30000
    targets.segment_map[targets.segment_map < 0] = -1
    expected = cost(shim, class_logits, mask_logits, targets)
    targets.labels[0, 1] = 10**9
    found = cost(shim, class_logits, mask_logits, SegmentTargets(wild, targets.labels, targets.num_segments))
    assert torch.equal(found[..., [0, 2]], expected[..., [0, 2]]) and found.isfinite().all()
