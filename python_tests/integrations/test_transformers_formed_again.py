"""Tensors that backward forms again: the same gradients, nothing kept, and others' saved-tensor hooks respected."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint

from maskformer_ext.integrations.transformers_models import formed_again
from maskformer_ext.integrations.transformers_models.formed_again import (
    activate,
    forming_again,
    normalize,
    with_recipe,
)


class Block(nn.Module):
    """A normalisation, a sum with it, and an activation, each before linear maps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.norm = nn.LayerNorm(8)
        self.first, self.second, self.last = (nn.Linear(8, 8) for _ in range(3))
        self.activation = nn.GELU()
        self.formed: list[StorageWeakRef] = []

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        normal = normalize(self.norm, x * 2)
        placed = with_recipe(normal + position, torch.add, normal, position)
        with forming_again(normal, placed):
            first, second = self.first(normal), self.second(placed)
        active = activate(self.activation, first * second)
        with forming_again(active):
            result = self.last(active)
        if not torch.compiler.is_compiling():
            self.formed = [StorageWeakRef(tensor.untyped_storage()) for tensor in (normal, placed, active)]
        return result

    def kept(self) -> int:
        """Return how many of the three tensors the last call left alive."""
        return sum(not reference.expired() for reference in self.formed)


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    return torch.randn(2, 5, 8, requires_grad=True), torch.randn(2, 5, 8, requires_grad=True)


def _gradients(block: Block, inputs: tuple[Tensor, Tensor], result: Tensor, **options: Any) -> tuple[Tensor, ...]:
    return torch.autograd.grad(result.square().sum(), (*inputs, *block.parameters()), **options)


def test_gradients_are_the_same_bits_and_nothing_is_kept(
    inputs: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    block = Block()
    result = block(*inputs)
    assert block.kept() == 0
    once, twice = _gradients(block, inputs, result, retain_graph=True), _gradients(block, inputs, result)
    monkeypatch.setattr(formed_again, "_is_free", lambda: False)
    result = block(*inputs)
    assert block.kept() == 3
    for expected, first, second in zip(_gradients(block, inputs, result), once, twice, strict=True):
        assert torch.equal(first, expected) and torch.equal(second, expected)


def test_second_derivatives() -> None:
    block = Block().double()
    given = [torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradgradcheck(block, given)


def test_a_change_in_place_is_refused(inputs: tuple[Tensor, Tensor]) -> None:
    block = Block()
    result = block(*inputs)
    with torch.no_grad():
        inputs[1].add_(1)
    with pytest.raises(RuntimeError, match=r"\(2, 5, 8\) that backward needs was modified by an inplace operation"):
        _gradients(block, inputs, result)


def test_checkpointing_and_offloading_decide_what_is_kept(inputs: tuple[Tensor, Tensor]) -> None:
    block = Block()
    expected = _gradients(block, inputs, block(*inputs))
    packed: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        packed.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda it: it):
        block(*inputs)
    assert sum(tensor.shape[-1] == 8 and tensor.numel() == 80 for tensor in packed) >= 5  # theirs saw all of them
    result = checkpoint(block, *inputs, use_reentrant=False)
    for got, gradient in zip(_gradients(block, inputs, result), expected, strict=True):
        assert torch.equal(got, gradient)


def test_modules_with_hooks_are_not_called_again(inputs: tuple[Tensor, Tensor]) -> None:
    block = Block()
    calls = []
    block.norm.register_forward_hook(lambda *_: calls.append("norm"))
    block.activation.register_forward_hook(lambda *_: calls.append("activation"))
    _gradients(block, inputs, block(*inputs))
    assert calls == ["norm", "activation"]


def test_without_gradients_and_compiled(inputs: tuple[Tensor, Tensor]) -> None:
    block = Block()
    expected = block(*inputs)
    with torch.no_grad():
        assert torch.equal(block(*inputs), expected)
    assert torch.allclose(torch.compile(block, backend="eager", fullgraph=True)(*inputs), expected)
