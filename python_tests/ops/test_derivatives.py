"""Derivatives of every kind are right where ops are differentiable: forward mode, torch.func, second ones by it."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad

from maskformer_ext import ops
from maskformer_ext.ops.pair_dot import pair_logits

torch.manual_seed(0)
INSIDE = torch.rand(3, 8, 8) < 0.5
TARGETS = ops.SegmentTargets(
    torch.randint(-1, 2, (2, 8, 8), dtype=torch.int32), torch.zeros(2, 2, dtype=torch.int64), torch.tensor([2, 2])
)
IMAGE, SEGMENT = torch.tensor([0, 1, -1]), torch.tensor([0, 1, -1])
EMBED, FEATURES = torch.randn(2, 2, 3, 5), torch.randn(2, 5, 4, 4)
SMALL, FULL = torch.randn(3, 4, 4), torch.randn(3, 8, 8)

# a function of one tensor, and the tensor
OPS = {
    "mask_loss": (lambda x: torch.stack(ops.mask_loss(x, INSIDE)), SMALL),
    "mask_loss, not resized": (lambda x: torch.stack(ops.mask_loss(x, INSIDE, alpha=-1, gamma=0)), FULL),
    "matched_mask_loss": (lambda x: torch.stack(ops.matched_mask_loss(x, TARGETS, IMAGE, SEGMENT)), SMALL),
    "matched_mask_loss of masks": (
        lambda x: torch.stack(ops.matched_mask_loss(x, TARGETS.to_masks(), IMAGE, SEGMENT, ignore_void=True)),
        SMALL,
    ),
    "dice_loss": (lambda x: ops.dice_loss(x, INSIDE), FULL),
    "sigmoid_focal_loss": (lambda x: ops.sigmoid_focal_loss(x, INSIDE.to(x.dtype)), FULL),
    "sigmoid_focal_loss, mean": (lambda x: ops.sigmoid_focal_loss(x, INSIDE.to(x.dtype), reduction="mean"), FULL),
    "mask_dot of embeddings": (lambda x: ops.mask_dot(x, FEATURES.to(x.dtype)), EMBED),
    "mask_dot of features": (lambda x: ops.mask_dot(EMBED.to(x.dtype), x, activation="sigmoid"), FEATURES),
    "pair_logits": (
        lambda x: pair_logits(x, FEATURES.to(x.dtype), torch.tensor([0, 0, 1, -1]), 2),
        torch.randn(4, 2, 5),
    ),
}


@pytest.fixture(params=OPS)
def case(request):
    return OPS[request.param]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_forward_mode_equals_float64(case):
    function, x = case
    tangent = torch.randn_like(x)
    expected = torch.func.jvp(function, (x.double(),), (tangent.double(),))[1]
    assert expected.abs().max() > 0
    close(torch.func.jvp(function, (x,), (tangent,))[1], expected)
    with forward_ad.dual_level():
        close(forward_ad.unpack_dual(function(forward_ad.make_dual(x, tangent))).tangent, expected)
    step = 1e-6 * tangent.double()
    close((function(x.double() + step) - function(x.double() - step)) / 2e-6, expected)


def test_transforms_of_torch_func_equal_float64(case):
    function, x = case

    def total(x):
        return function(x).square().sum()

    close(torch.func.grad(total)(x), torch.func.grad(total)(x.double()))
    close(torch.func.jacrev(function)(x), torch.func.jacfwd(function)(x.double()))
    close(torch.func.jacfwd(function)(x), torch.func.jacrev(function)(x.double()))
    both = torch.stack([x, 2 * x])
    close(torch.func.vmap(function)(both), torch.stack([function(x.double()), function(2 * x.double())]))
    gradients = torch.stack([torch.func.grad(total)(each.double()) for each in both])
    close(torch.func.vmap(torch.func.grad(total))(both), gradients)


def test_second_derivatives_by_transforms_equal_float64(case):
    function, x = case

    def total(x):
        return function(x).square().sum()

    expected = torch.func.hessian(total)(x.double())
    close(torch.func.hessian(total)(x), expected)
    close(torch.func.jacrev(torch.func.jacrev(total))(x), expected)


def test_second_derivatives_by_backward_are_right_or_refused(case):
    function, x = case

    def twice(x):
        x = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    try:
        found = twice(x)
    except RuntimeError as error:
        assert "has no second derivative; use " in str(error)
    else:
        close(found, twice(x.double()))


def test_gradients_of_a_dual_level_are_those_outside(case):
    function, x = case
    x = x.clone().requires_grad_()
    expected = torch.autograd.grad(function(x).square().sum(), x)[0]
    with forward_ad.dual_level():
        close(torch.autograd.grad(function(x).square().sum(), x)[0], expected.double())
