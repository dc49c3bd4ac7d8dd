"""One infinite logit: losses and gradients are finite wherever the float64 reference's are, and equal to them."""

from __future__ import annotations

import math

import pytest
import torch
from op_checks import native_only

from maskformer_ext.ops import dice_loss, mask_loss, sigmoid_focal_loss

PLACE = (0, 3, 4)
OPTIONS = [(0.25, 2.0), (-1.0, 0.0), (0.3, 1.5), (0.25, 0.5)]


def make(dtype, value, target, size=(12, 12)):
    torch.manual_seed(0)
    logits, targets = torch.randn(1, *size).to(dtype), (torch.rand(1, *size) < 0.5).float()
    logits[PLACE], targets[PLACE] = value, target
    return logits, targets


def losses(alpha, gamma):
    def reduced(index):
        return lambda x, t: mask_loss(x, t, alpha=alpha, gamma=gamma)[index]

    return {
        "dice_loss": lambda x, t: dice_loss(x, t),
        "mask_loss, focal": reduced(0),
        "mask_loss, dice": reduced(1),
        "sigmoid_focal_loss": lambda x, t: sigmoid_focal_loss(x, t.to(x.dtype), alpha, gamma),
        "sigmoid_focal_loss, mean": lambda x, t: sigmoid_focal_loss(x, t.to(x.dtype), alpha, gamma, "mean"),
    }


def compare(loss, logits, targets, tolerance):
    """Where float64 is finite, ours equals it; returns how many losses and gradients were finite."""
    finite = 0
    narrow, wide = logits.clone().requires_grad_(), logits.double().requires_grad_()
    ours, theirs = loss(narrow, targets), loss(wide, targets)
    pairs = [(ours, theirs)]
    pairs.append((torch.autograd.grad(ours.sum(), narrow)[0], torch.autograd.grad(theirs.sum(), wide)[0]))
    for found, expected in pairs:
        known = expected.isfinite()
        finite += int(known.sum())
        torch.testing.assert_close(found.double()[known], expected[known], rtol=tolerance, atol=tolerance)
    return finite


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e30, -6e4])
def test_finite_where_float64_is(value, target, dtype, tolerance):
    logits, targets = make(dtype, value, target)
    for alpha, gamma in OPTIONS:
        for name, loss in losses(alpha, gamma).items():
            for form in (targets, targets != 0):
                if form.dtype == torch.bool and name.startswith("sigmoid"):
                    continue
                finite = compare(loss, logits, form, tolerance)
                # dice never depends on how large a logit is, nor a pixel's focal loss on its neighbours
                assert finite >= {"dice_loss": 145, "mask_loss, dice": 145, "sigmoid_focal_loss": 286}.get(name, 0)


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_dice_of_resized_logits_is_finite_where_float64_is(value):
    logits, targets = make(torch.float32, value, 1.0)
    larger = targets.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert compare(lambda x, t: mask_loss(x, t)[1], logits, larger, 1e-5) == 145


@native_only
@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_a_logit_on_the_right_side_costs_nothing(value):
    """Where float64 multiplies 0 by infinity, the limit is what a very large logit gives."""
    logits, targets = make(torch.float32, value, float(value > 0))
    large, _ = make(torch.float32, math.copysign(1e4, value), 0.0)
    for ours, theirs in zip(mask_loss(logits, targets), mask_loss(large, targets), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    for gamma in (0.0, 0.5, 2.0):
        right = logits.clone().requires_grad_()
        loss = sigmoid_focal_loss(right, targets, gamma=gamma)
        (grad,) = torch.autograd.grad(loss.sum(), right)
        assert max(abs(loss[PLACE]), abs(grad[PLACE])) < 1e-30
