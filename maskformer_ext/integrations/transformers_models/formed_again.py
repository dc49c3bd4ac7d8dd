"""Sums and normalised states that cost little: backward forms them again, so that they need not be kept for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from maskformer_ext.ops.support.library import transformed, without_autocast

_GELUS = ("GELUActivation", "GELU")  # of transformers and of torch, with the error function
_recipes: Any = WeakTensorKeyDictionary()  # by the tensor that a recipe is for


class _Kept:
    """A tensor that is kept as usual; as autograd does, it refuses one that was changed in place since."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.version = tensor, tensor._version

    def get(self) -> Tensor:
        if self.tensor._version != self.version:
            raise RuntimeError(
                f"a tensor of shape {tuple(self.tensor.shape)} that backward needs was modified by an inplace "
                f"operation: it must be at version {self.version}, got version {self.tensor._version}"
            )
        return self.tensor


class _Recipe:
    """How a tensor is formed from tensors that are there in backward anyway.

    Several operations may need the tensor. The first of them forms it, the last one lets go of it.
    """

    def __init__(self, form: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
        self.form = form
        self.inputs = [_recipes.get(tensor) or _Kept(tensor.detach()) for tensor in inputs]
        self.needed = 0
        self.left = 0
        self.formed: Tensor | None = None

    def need(self) -> None:
        """Count one more operation that will call `get`."""
        self.needed += 1
        for source in self.inputs:
            if isinstance(source, _Recipe) and self.needed == 1:
                source.need()

    def get(self) -> Tensor:
        """Return the tensor."""
        if self.formed is None:
            inputs = [source.get() for source in self.inputs]
            with torch.no_grad(), without_autocast(inputs[0]):
                self.formed = self.form(*inputs)
            self.left = self.needed
        result = self.formed
        self.left -= 1
        if self.left <= 0:
            self.formed = None
        return result


class _Again(tuple[_Recipe, torch.Size]):
    """What autograd keeps instead of a tensor: its recipe and its shape."""

    def get(self) -> Tensor:
        recipe, size = self
        return recipe.get().view(size)


def with_recipe(result: Tensor, form: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Note on a tensor that ``form(*inputs)`` gives its bits; return it.

    Args:
        result: the tensor.
        form: a cheap function without randomness.
        inputs: tensors that backward keeps for other reasons, or that have a recipe themselves.
    """
    simple = all(type(tensor) in (Tensor, nn.Parameter) for tensor in (result, *inputs))
    if simple and result.requires_grad and result.is_contiguous() and result.numel() and _is_free():
        _recipes[result] = _Recipe(form, inputs)
    return result


@contextmanager
def forming_again(*tensors: Tensor) -> Iterator[None]:
    """Within, operations do not keep these tensors for backward if they have a recipe."""
    known = {tensor.data_ptr(): tensor for tensor in tensors if tensor in _recipes} if _is_free() else {}
    if not known:
        yield
        return

    def pack(kept: Tensor) -> _Again | _Kept:
        same = known.get(kept.data_ptr()) if type(kept) is Tensor else None
        if same is None or same.numel() != kept.numel() or same.dtype != kept.dtype or not kept.is_contiguous():
            return _Kept(kept)
        recipe = _recipes[same]
        recipe.need()
        return _Again((recipe, kept.shape))

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda packed: packed.get()):
            yield
    finally:
        known.clear()  # what is kept for backward holds on to pack


def normalize(norm: nn.Module, states: Tensor) -> Tensor:
    """Call a layer normalisation; its result has a recipe if the module is torch's own, without hooks."""
    result = norm(states)
    if type(norm) is not nn.LayerNorm or norm.weight is None or norm.bias is None or _has_hooks(norm):
        return result
    if states.dtype != norm.weight.dtype or result.dtype != states.dtype:
        return result  # autocast has its own rounding
    size, eps = norm.normalized_shape, norm.eps
    inputs = states, norm.weight, norm.bias
    return with_recipe(result, lambda x, gain, offset: torch.layer_norm(x, size, gain, offset, eps), *inputs)


def activate(activation: nn.Module, states: Tensor) -> Tensor:
    """Call a GELU, which keeps the states; its result has a recipe if the module is without hooks."""
    result = activation(states)
    if type(activation).__name__ not in _GELUS or _has_hooks(activation) or result.dtype != states.dtype:
        return result
    return with_recipe(result, activation, states)


def _has_hooks(module: Any) -> bool:
    hooks = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
    return any(getattr(module, name) for name in hooks)


def _is_free() -> bool:
    """Return whether nobody else decides what is kept: a compiler, a transform, checkpointing, offloading."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or transformed():
        return False
    enabled = getattr(torch._C._autograd, "_saved_tensors_hooks_is_enabled", None)
    outer = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return enabled is not None and outer is not None and enabled() and outer(True) is None
