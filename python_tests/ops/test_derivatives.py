"""Derivatives of every kind are right where ops are differentiable: forward mode, torch.func, second ones by it."""

from __future__ import annotations

import pytest
import torch
from op_samples import all_samples, tensors_of
from torch import Tensor
from torch.autograd import forward_ad


def cases() -> list:
    """Return, per sample and tensor that it is differentiable in, a function of that tensor, and the tensor."""
    found = []
    for param in all_samples(differentiable=True):
        (sample,) = param.values
        if "out_dtype" in sample.rest:
            continue  # the float64 reference would not be one
        for name in sample.differentiable:
            tensor = sample.floating[name]
            if tensor.numel():
                found.append(pytest.param((_of_one(sample, name), tensor), id=f"{sample.name}, {name}"))
    return found


def _of_one(sample, name: str):
    def function(x: Tensor) -> Tensor:
        others = {key: value.to(x.dtype) for key, value in sample.floating.items() if key != name}
        return torch.cat([part.flatten() for part in tensors_of(sample(**others, **{name: x}))])

    return function


@pytest.fixture(params=cases())
def case(request):
    return request.param


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
