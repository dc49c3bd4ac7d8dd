"""Ops on a GPU against the CPU's results; skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from op_checks import LARGEST_ERROR, error
from test_linear_sum_assignment import KINDS, make_cost
from test_mask_loss import SHAPES, make
from test_matched_mask_loss import IMAGE, SEGMENT, make_targets
from test_matching_cost import random_targets

from maskformer_ext.ops import linear_sum_assignment, mask_dot, mask_loss, matched_mask_loss, matching_cost
from maskformer_ext.ops._library import native

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (100, 30), (300, 300)], ids=str)
def test_assignment(kind, shape):
    cost = torch.stack([torch.from_numpy(make_cost(kind, shape, seed)) for seed in range(8)])
    cost[3, 0] = torch.inf
    counts = torch.full((8,), shape[1])
    assert native("linear_sum_assignment", cost.float().cuda())
    assert torch.equal(linear_sum_assignment(cost.cuda(), counts.cuda()).cpu(), linear_sum_assignment(cost, counts))


@pytest.mark.parametrize("form", ["segment_map", "masks"])
@pytest.mark.parametrize("ignore_void", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matching_cost(form, ignore_void, dtype):
    targets = random_targets(2, [30, 7], 30, (256, 200), 9)
    targets = targets.to_masks() if form == "masks" else targets
    inputs = torch.randn(3, 2, 50, 10).to(dtype), 4 * torch.randn(3, 2, 50, 64, 50).to(dtype)
    expected = matching_cost(*inputs, targets, ignore_void=ignore_void)
    on_gpu = [x.cuda() for x in inputs]
    found = matching_cost(*on_gpu, targets.to("cuda"), ignore_void=ignore_void)
    assert error(found.cpu(), expected.double()) <= LARGEST_ERROR
    assert torch.equal(found, matching_cost(*on_gpu, targets.to("cuda"), ignore_void=ignore_void))


def _losses_and_gradient(losses, logits):
    x = logits.detach().clone().requires_grad_()
    focal, dice = losses(x)
    (gradient,) = torch.autograd.grad(20 * focal.sum() + dice.sum(), x)
    return focal.detach().cpu(), dice.detach().cpu(), gradient.cpu()


@pytest.mark.parametrize("target", ["bool", "float32", "between"])
@pytest.mark.parametrize("shape", [*SHAPES, (20, (128, 128), (512, 512))], ids=str)
def test_mask_loss(shape, target):
    logits, targets = make(shape, target)
    expected = _losses_and_gradient(lambda x: mask_loss(x, targets), logits)
    found = _losses_and_gradient(lambda x: mask_loss(x, targets.cuda()), logits.cuda())
    for ours, theirs in zip(found, expected, strict=True):
        assert error(ours, theirs.double()) <= (LARGEST_ERROR if min(shape[1]) > 4 else 1e-5)


@pytest.mark.parametrize("ignore_void", [False, True])
@pytest.mark.parametrize("form", ["segments", "bool", "float"])
def test_matched_mask_loss(form, ignore_void):
    targets, logits = make_targets(form), 3 * torch.randn(len(IMAGE), 20, 24)
    expected = _losses_and_gradient(
        lambda x: matched_mask_loss(x, targets, IMAGE, SEGMENT, ignore_void=ignore_void), logits
    )
    given = targets.to("cuda"), IMAGE.cuda(), SEGMENT.cuda()
    found = _losses_and_gradient(lambda x: matched_mask_loss(x, *given, ignore_void=ignore_void), logits.cuda())
    for ours, theirs in zip(found, expected, strict=True):
        assert error(ours, theirs.double()) <= LARGEST_ERROR


def test_mask_dot():
    mask_embed, mask_features = torch.randn(2, 2, 7, 16), torch.randn(2, 16, 9, 11)
    for activation in ("none", "sigmoid"):
        found = mask_dot(mask_embed.cuda(), mask_features.cuda(), activation=activation).cpu()
        assert error(found, mask_dot(mask_embed, mask_features, activation=activation).double()) <= LARGEST_ERROR


def test_matching_and_losses_never_wait():
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
    assert mask_logits.grad.isfinite().all()
