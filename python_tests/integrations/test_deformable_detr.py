"""The usual extension's functions on ours, and our module under its name."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maskformer_ext.errors import UserError
from maskformer_ext.integrations import deformable_detr
from maskformer_ext.integrations.deformable_detr import (
    EXTENSION,
    MSDeformAttnFunction,
    ms_deform_attn_backward,
    provide_extension,
    withdraw_extension,
)
from maskformer_ext.ops import ms_deform_attn

SHAPES = ((5, 4), (3, 2))
# What a checkout has: a module of compiled functions is imported, and a function for autograd calls it.
CHECKOUT = """
import torch
import MultiScaleDeformableAttention as compiled


class Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, shapes, starts, places, shares, step):
        ctx.step = step
        ctx.save_for_backward(value, shapes, starts, places, shares)
        return compiled.ms_deform_attn_forward(value, shapes, starts, places, shares, step)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        to_value, to_places, to_shares = compiled.ms_deform_attn_backward(*ctx.saved_tensors, grad, ctx.step)
        return to_value, None, None, to_places, to_shares, None
"""


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    withdraw_extension()
    assert EXTENSION not in sys.modules


def _inputs(dtype: torch.dtype = torch.float32) -> tuple[Any, ...]:
    torch.manual_seed(1)
    cells = sum(h * w for h, w in SHAPES)
    value = torch.randn(2, cells, 4, 8, dtype=dtype, requires_grad=True)
    locations = (torch.rand(2, 6, 4, 2, 3, 2) * 1.4 - 0.2).to(dtype).requires_grad_()
    weights = torch.rand(2, 6, 4, 2, 3).flatten(3).softmax(-1).view(2, 6, 4, 2, 3).to(dtype).requires_grad_()
    return value, torch.tensor(SHAPES), torch.tensor([0, 20]), locations, weights, 64


def _results(function: Any, inputs: tuple[Any, ...]) -> list[Tensor]:
    """Return the output and the gradients."""
    output = function(*inputs)
    wanted = [tensor for tensor in inputs if isinstance(tensor, Tensor) and tensor.requires_grad]
    return [
        output,
        *torch.autograd.grad(output, wanted, torch.linspace(-1, 1, output.numel()).view_as(output).to(output)),
    ]


def _with_list(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor, step: int) -> Tensor:
    return ms_deform_attn(value, SHAPES, locations, weights)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder with code as in a checkout, on the path; its name."""
    (tmp_path / "checkout_of_others.py").write_text(CHECKOUT)
    monkeypatch.syspath_prepend(tmp_path)
    yield "checkout_of_others"
    sys.modules.pop("checkout_of_others", None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_checkout_runs_on_ours_unchanged(checkout: str, dtype: torch.dtype) -> None:
    with pytest.raises(ImportError):
        importlib.import_module(checkout)
    provide_extension()
    inputs = _inputs(dtype)
    expected = _results(_with_list, inputs)
    for result, other in zip(
        _results(importlib.import_module(checkout).Attention.apply, inputs), expected, strict=True
    ):
        assert torch.equal(result, other) and result.dtype == other.dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_function_equals_the_op(dtype: torch.dtype) -> None:
    inputs = _inputs(dtype)
    for result, other in zip(_results(MSDeformAttnFunction.apply, inputs), _results(_with_list, inputs), strict=True):
        assert torch.equal(result, other)


def test_backward_needs_neither_graph_nor_gradients() -> None:
    inputs = _inputs()
    expected = _results(_with_list, inputs)
    grad = torch.linspace(-1, 1, expected[0].numel()).view_as(expected[0])
    with torch.inference_mode():
        value, shapes, starts, locations, weights = (tensor.detach().clone() for tensor in inputs[:-1])
        found = ms_deform_attn_backward(value, shapes, starts, locations, weights, grad, 64)
    assert all(torch.equal(result, other) for result, other in zip(found, expected[1:], strict=True))


def test_the_module_is_found_offered_once_and_withdrawn() -> None:
    module = provide_extension()
    assert provide_extension() is module is importlib.import_module(EXTENSION)
    assert importlib.util.find_spec(EXTENSION) is not None
    withdraw_extension()
    assert EXTENSION not in sys.modules
    withdraw_extension()


def test_an_imported_extension_is_left_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        theirs = types.ModuleType(EXTENSION)
        theirs.__file__ = "/somewhere/extension.so"
        patch.setitem(sys.modules, EXTENSION, theirs)
        with pytest.raises(UserError, match=r"\(/somewhere/extension.so\)"):
            provide_extension()
        assert sys.modules[EXTENSION] is theirs
        assert provide_extension(replace=True) is sys.modules[EXTENSION] is not theirs
        withdraw_extension()
        assert sys.modules[EXTENSION] is theirs
        withdraw_extension()
        assert sys.modules[EXTENSION] is theirs


def test_an_installed_extension_is_left_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{EXTENSION}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"{EXTENSION}.py"):
        provide_extension()
    assert EXTENSION not in sys.modules
    provide_extension(replace=True)


@pytest.mark.parametrize("shapes", [[[5, 4], [3, 2]], torch.rand(2, 2), torch.tensor([5, 4])])
def test_sizes_that_are_no_tensor_of_integers_are_refused(shapes: Any) -> None:
    value, _, *others = _inputs()
    with pytest.raises(TypeError, match=r"spatial_shapes must be a tensor \(L, 2\) of integers, got"):
        MSDeformAttnFunction.apply(value, shapes, *others)


def test_sizes_on_a_gpu_are_read_once_until_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu(Tensor):
        device = torch.device("cuda")
        reads = 0

        def tolist(self) -> Any:
            OnGpu.reads += 1
            return super().tolist()

    shapes = torch.tensor(SHAPES).as_subclass(OnGpu)
    for _ in range(3):
        assert deformable_detr._sizes(shapes) == [[5, 4], [3, 2]]
    assert OnGpu.reads == 1
    shapes[0, 0] = 6
    assert deformable_detr._sizes(shapes) == [[6, 4], [3, 2]] == deformable_detr._sizes(shapes)
    assert OnGpu.reads == 2
    other = torch.tensor(SHAPES).as_subclass(OnGpu)
    assert deformable_detr._sizes(other) == [[5, 4], [3, 2]] and OnGpu.reads == 3
