"""The CUDA kernels of dice_loss against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from op_checks import LARGEST_ERROR, error
from test_dice_loss import make

from maskformer_ext.ops import dice_loss


def errors(shim, logits, targets, grad=None):
    loss, coefficients = shim.dice_loss(logits, targets)
    grad = torch.randn(len(logits)) if grad is None else grad
    found = shim.dice_loss_backward(grad, logits, targets, coefficients)
    assert found.dtype == logits.dtype and found.is_contiguous()
    wide = logits.double().requires_grad_()
    expected = dice_loss(wide, targets.double() if targets.is_floating_point() else targets)
    (gradient,) = torch.autograd.grad(expected, wide, grad.double())
    return error(loss, expected), error(found, gradient)


@pytest.mark.parametrize("target", ["float", "bool", "uint8", "between", "bfloat16"])
@pytest.mark.parametrize("shape", [(3, 17001), (2, 16384), (1, 8196), (2, 1), (5, 7)], ids=str)
def test_losses_and_gradients(shim, shape, target):
    assert max(errors(shim, *make(shape, target))) <= LARGEST_ERROR


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
@pytest.mark.parametrize("target", ["bool", "bfloat16"])
def test_half_precision(shim, dtype, allowed, target):
    logits, targets = make((3, 40), target)
    loss, gradient = errors(shim, logits.to(dtype), targets)
    assert loss <= LARGEST_ERROR and gradient <= allowed
    assert torch.equal(shim.dice_loss(logits, targets)[0], shim.dice_loss(logits, targets.double().float())[0])


def test_views_that_are_not_aligned_or_not_contiguous(shim):
    logits, targets = make((4, 161), "bool")
    whole_l, whole_t = logits.flatten(), targets.flatten()
    for first_l, first_t in ((1, 0), (0, 1), (4, 4)):
        pair = whole_l[first_l : first_l + 640].view(4, 160), whole_t[first_t : first_t + 640].view(4, 160)
        assert max(errors(shim, *pair)) <= LARGEST_ERROR
    assert max(errors(shim, logits[:, ::2], targets[:, ::2], torch.randn(8)[::2])) <= LARGEST_ERROR
    assert max(errors(shim, logits.mT, targets.mT)) <= LARGEST_ERROR


def test_good_predictions_and_numbers_that_are_none(shim):
    targets = torch.rand(3, 4096) < 0.3
    logits = torch.where(targets, 16.0, -16.0)
    assert max(errors(shim, logits, targets)) <= LARGEST_ERROR
    logits[1, 77] = torch.nan
    loss, _ = shim.dice_loss(logits, targets)
    assert loss.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("shape", [(0, 9), (3, 0), (0, 0)], ids=str)
def test_empty(shim, shape):
    logits, targets = torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
    loss, coefficients = shim.dice_loss(logits, targets)
    expected = torch.ops.maskformer_ext.dice_loss(logits, targets)
    assert torch.equal(loss, expected[0]) and torch.equal(coefficients, expected[1])
    assert shim.dice_loss_backward(torch.ones(shape[0]), logits, targets, coefficients).shape == shape


def test_shapes_that_differ_are_refused(shim):
    with pytest.raises(RuntimeError, match="mask_logits and targets must have the same shape"):
        shim.dice_loss(torch.zeros(2, 3), torch.zeros(2, 4))
