"""Matching and losses together, by the kernels and the Python that a GPU would run, on values."""

from __future__ import annotations

import pytest
import torch
from faulty_targets import CLASSES, FAULTS, make_targets, predictions
from segments import random_targets
from torch import Tensor
from typed import present

from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.outputs import MaskFormerOutput
from maskformer_ext.ops import linear_sum_assignment, matched_mask_loss, matching_cost


def losses(targets, device: str) -> tuple[list[Tensor], int]:
    """Return every loss and the gradients of the total, and the number of invalid targets, computed on a device."""
    made = predictions()
    inputs = [x.to(device).requires_grad_() for x in (made.class_logits, made.mask_embed, made.mask_features)]
    total, parts, stats = MaskFormerCriterion(CLASSES)(MaskFormerOutput(*inputs), targets.to(device))
    found = [*parts.values(), *torch.autograd.grad(total, inputs)]
    return [part.cpu() for part in found], int(stats["invalid_targets"])


@pytest.mark.parametrize("masks", [False, True], ids=["segment map", "masks"])
def test_the_criterion_equals_the_cpus(kernels, masks: bool) -> None:
    segments = make_targets()
    targets = segments.to_masks().with_pairs() if masks else segments
    with kernels.of_the_cpu():
        expected, _ = losses(targets, "cpu")
    found, invalid = losses(targets, kernels.device)
    assert invalid == 0
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.cuda_kernels
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_out_of_range_is_void_and_counted(kernels, fault: str) -> None:
    parts, invalid = losses(make_targets(fault), kernels.device)
    assert invalid == 1 and all(part.isfinite().all() for part in parts)


@pytest.mark.cuda_kernels
@pytest.mark.parametrize("pair", [(7, 0), (0, 99), (1, 1)], ids=["image", "segment", "beyond the image's segments"])
def test_pairs_that_do_not_exist_are_left_out(kernels, pair: tuple[int, int]) -> None:
    targets = make_targets()
    for index, value in zip(targets.pairs(), pair, strict=True):
        index[3] = value  # of four
    parts, invalid = losses(targets, kernels.device)
    assert invalid == 1 and all(part.isfinite().all() for part in parts)


@pytest.mark.gpu
def test_matching_and_losses_never_wait() -> None:
    targets = random_targets(2, [5, 3], 5, (64, 64), 6).with_pairs().to("cuda")
    class_logits = torch.randn(3, 2, 20, 7, device="cuda")
    mask_logits = torch.randn(3, 2, 20, 16, 16, device="cuda", requires_grad=True)
    image, segment = targets.pairs()
    torch.cuda.set_sync_debug_mode("error")
    try:
        query = linear_sum_assignment(matching_cost(class_logits, mask_logits, targets), targets.num_segments)
        matched = mask_logits[0][image.clamp(min=0), query[0][image.clamp(min=0), segment.clamp(min=0)].clamp(min=0)]
        focal, dice = matched_mask_loss(matched, targets, image, segment)
        (20 * focal.sum() + dice.sum()).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert present(mask_logits.grad).isfinite().all()
