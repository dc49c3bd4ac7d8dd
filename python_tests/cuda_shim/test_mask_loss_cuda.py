"""The CUDA kernels of mask_loss and matched_mask_loss against the float64 reference."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import cuda_kernels_only
from op_checks import LARGEST_ERROR, error
from test_mask_loss import SHAPES, make, widen
from test_matched_mask_loss import IMAGE, SEGMENT, as_dtype, make_targets

from maskformer_ext.ops import SegmentTargets, mask_loss, matched_mask_loss

WEIGHTS = [(0.25, 2.0), (-1.0, 0.0), (0.7, 1.5)]


def losses_and_gradients(losses, logits):
    """Losses of float64 logits, and the gradient of each loss times a direction."""
    logits = logits.double().requires_grad_()
    found = losses(logits)
    directions = [torch.randn(len(loss), generator=torch.Generator().manual_seed(1)).double() for loss in found]
    return [
        (loss.detach(), direction, torch.autograd.grad(loss, logits, direction, retain_graph=True)[0])
        for loss, direction in zip(found, directions, strict=True)
    ]


def compare(shim, outputs, expected, dtype=torch.float32, allowed=LARGEST_ERROR):
    focal, dice, maps, coefficients = outputs
    for index, (loss, direction, gradient) in enumerate(expected):
        assert error((focal, dice)[index], loss) <= LARGEST_ERROR
        directions = [None, None]
        directions[index] = direction.float()
        ours = shim.mask_loss_backward(maps, coefficients, *directions, dtype)
        assert error(ours, gradient) <= allowed


@pytest.mark.parametrize("target", ["bool", "uint8", "float32", "bfloat16", "between"])
@pytest.mark.parametrize("shape", [s for s in SHAPES if s[0] < 10], ids=str)
def test_mask_loss(shim, shape, target):
    logits, targets = make(shape, target)
    for alpha, gamma in WEIGHTS[: 1 if shape[2][0] > 90 else 3]:
        outputs = shim.mask_loss(logits, targets, alpha, gamma, True)
        expected = losses_and_gradients(
            lambda x, a=alpha, g=gamma: mask_loss(x, widen(targets), alpha=a, gamma=g), logits
        )
        compare(shim, outputs, expected, allowed=LARGEST_ERROR if min(shape[1]) > 4 else 1e-5)
        without = shim.mask_loss(logits, targets, alpha, gamma, False)
        torch.testing.assert_close(without[0], outputs[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(without[1], outputs[1], rtol=1e-6, atol=0)
        assert without[2].numel() == 0


def test_wide_masks_are_swept_in_chunks_and_pieces(shim):
    for shape in ((1, (9, 300), (20, 1300)), (1, (3, 2), (12, 1100)), (1, (20, 280), (7, 90))):
        logits, targets = make(shape)
        outputs = shim.mask_loss(logits, targets, 0.25, 2.0, True)
        allowed = LARGEST_ERROR if min(shape[1]) > 4 else 1e-5
        compare(shim, outputs, losses_and_gradients(lambda x, t=targets: mask_loss(x, t), logits), allowed=allowed)


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
def test_half_precision_and_strides(shim, dtype, allowed):
    logits, targets = make((3, (12, 20), (40, 66)), dtype=dtype)
    strided = logits.mT.contiguous().mT
    outputs = shim.mask_loss(strided, targets.repeat_interleave(2, 1)[:, ::2], 0.25, 2.0, True)
    compare(shim, outputs, losses_and_gradients(lambda x: mask_loss(x, targets), logits), dtype, allowed)


@pytest.mark.parametrize("ignore_void", [False, True])
@pytest.mark.parametrize("size", [(80, 96), (79, 50), (7, 9)], ids=str)
@pytest.mark.parametrize("form", ["segments", "short", "bool", "float", "uint8"])
def test_matched_mask_loss(shim, form, size, ignore_void):
    targets = make_targets("segments" if form == "short" else form, size)
    if form == "short":
        targets = SegmentTargets(targets.segment_map.short(), targets.labels, targets.num_segments)
    is_map = isinstance(targets, SegmentTargets)
    pixels, void = (targets.segment_map, None) if is_map else (targets.masks, targets.void if ignore_void else None)
    logits = 3 * torch.randn(len(IMAGE), 20, 24)
    arguments = (targets.num_segments, void, IMAGE, SEGMENT, 0.25, 2.0, ignore_void, True)
    expected = losses_and_gradients(
        lambda x: matched_mask_loss(x, as_dtype(targets, x.dtype), IMAGE, SEGMENT, ignore_void=ignore_void), logits
    )
    compare(shim, shim.matched_mask_loss(logits, pixels, *arguments), expected)


@cuda_kernels_only
def test_what_is_out_of_range_is_no_pair_and_void(shim):
    targets, logits = make_targets("segments"), torch.randn(4, 8, 10)
    image, segment = torch.tensor([0, 7, 0, -3]), torch.tensor([1, 0, 99, 2])
    wild = targets.segment_map.clone()
    wild[wild < 0] = 30000
    arguments = (targets.num_segments, None, image, segment, 0.25, 2.0, True, True)
    outputs = [shim.matched_mask_loss(logits, pixels, *arguments) for pixels in (targets.segment_map, wild)]
    for focal, dice, maps, _ in outputs:
        assert (focal[1:] == 0).all() and (dice[1:] == 0).all() and (maps[1:] == 0).all()
        assert focal[0] > 0
    assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))


@pytest.mark.parametrize("value", [math.inf, -math.inf])
@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
def test_one_infinite_logit_spoils_neither_dice_nor_other_pixels(shim, value, target):
    logits, targets = make((1, (9, 11), (9, 11)), "float32")
    logits[0, 3, 4], targets[0, 3, 4] = value, target
    _, dice, maps, coefficients = shim.mask_loss(logits, targets, 0.25, 2.0, True)
    (_, _, _), (expected, direction, gradient) = losses_and_gradients(lambda x: mask_loss(x, targets), logits)
    assert expected.isfinite() and gradient.isfinite().all()
    assert error(dice, expected) <= LARGEST_ERROR
    of_dice = shim.mask_loss_backward(maps, coefficients, None, direction.float(), torch.float32)
    assert error(of_dice, gradient) <= LARGEST_ERROR
    other = torch.ones(9, 11, dtype=torch.bool)
    other[3, 4] = False
    of_focal = shim.mask_loss_backward(maps, coefficients, torch.ones(1), None, torch.float32)
    assert of_focal[0, other].isfinite().all() and maps[0, :, other].isfinite().all()
