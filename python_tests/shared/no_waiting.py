"""Find, where there is no GPU, what would make the host wait for one.

``NeverWaits`` watches every operation, those of the backward pass too, and raises at the first that needs a value
or copies between host and device. Tensors on the device "meta" stand in for a GPU's: they have no values, their device
is not the CPU, and autograd runs on them. ``on_a_stand_in`` makes the native ops take them. What the kernels do is not
seen; the bodies of Python ops are, if a test calls them.

What torch's dispatcher shows depends on its release. Tensors of Python numbers appear on "meta" without an operation
in some releases, and with ``lift_fresh`` in others. ``t[mask] = 1.0`` is ``masked_fill_`` in some, and in others an
``index_put_`` that looks like ``t[mask] = t[0]``, which waits. So the calls from Python are watched too.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from maskformer_ext.ops.support import checks, library

# Operations whose result, or the shape of it, the host has to wait for. bincount and histc look for the largest value.
_WAITING = (
    "_local_scalar_dense item is_nonzero equal nonzero argwhere masked_select _unique _unique2 unique_dim "
    "unique_consecutive unique_dim_consecutive bincount histc histogram isin multinomial"
).split()
# What makes tensors of Python's numbers, of lists and of arrays.
_FACTORIES = (
    *((torch, name) for name in ("tensor", "as_tensor", "asarray")),
    *((Tensor, name) for name in ("new_tensor", "new")),
)


class WouldWait(AssertionError):
    """An operation for which a host would wait for its GPU."""


class NeverWaits(TorchDispatchMode):
    """Raise ``WouldWait`` at the first operation that would wait for a device.

    Args:
        device: the type of the device that must not be waited for; "cpu" looks for values that are read only.

    Attributes:
        calls: every operation with the shapes of the tensors that it was given, in order.
    """

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.device = device
        self.calls: list[tuple[str, tuple[torch.Size, ...]]] = []
        self._python = pytest.MonkeyPatch()
        self._assigns_number = False  # t[...] = 1.0 is under way

    @property
    def seen(self) -> set[str]:
        """The names of the operations."""
        return {name for name, _ in self.calls}

    def __enter__(self):
        if self.device != "cpu":
            for owner, name in _FACTORIES:
                self._python.setattr(owner, name, self._factory(getattr(owner, name)))
            self._python.setattr(Tensor, "__getitem__", self._get_item(Tensor.__getitem__))
            self._python.setattr(Tensor, "__setitem__", self._set_item(Tensor.__setitem__))
        return super().__enter__()

    def __exit__(self, *error):
        self._python.undo()
        return super().__exit__(*error)

    def _factory(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """Refuse to make tensors of the device from what the host holds."""

        @functools.wraps(make)
        def watched(*args: Any, **kwargs: Any) -> Any:
            result = make(*args, **kwargs)
            given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            given = given[1:] if make.__name__.startswith("new") else given  # the first one only says where
            if result.numel() and result.device.type == self.device and not any(map(self._is_watched, given)):
                self._refuse(make.__name__, "a tensor is made of Python numbers, which are copied from pageable memory")
            return result

        return watched

    def _get_item(self, get: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(get)
        def watched(tensor: Tensor, key: Any) -> Any:
            self._check_key(tensor, key)
            return get(tensor, key)

        return watched

    def _set_item(self, put: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(put)
        def watched(tensor: Tensor, key: Any, value: Any) -> None:
            self._check_key(tensor, key)
            self._assigns_number = isinstance(value, (bool, int, float, complex))
            try:
                put(tensor, key, value)
            finally:
                self._assigns_number = False

        return watched

    def _check_key(self, tensor: Tensor, key: Any) -> None:
        """Refuse lists and arrays as indices, of which torch makes tensors."""
        parts = key if isinstance(key, tuple) else (key,)
        if self._is_watched(tensor) and any(
            hasattr(part, "__len__") and not isinstance(part, Tensor) for part in parts
        ):
            self._refuse("indexing", "an index is a list, which is copied from pageable memory")

    def _is_watched(self, tensor: Tensor) -> bool:
        return tensor.device.type == self.device

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self.calls.append((name, tuple(tensor.shape for tensor in tensors)))
        on_device = [tensor for tensor in tensors if self._is_watched(tensor)]
        if on_device and name in _WAITING:
            self._refuse(function, "its result has to be read")
        if on_device and function is torch.ops.aten.repeat_interleave.Tensor:
            self._refuse(function, "the size of its result has to be read")
        if on_device and name in ("index", "index_put", "index_put_", "_unsafe_index"):
            indices = [index for index in args[1] if index is not None]
            # A number assigned through one mask is a masked_fill_: nothing is counted.
            filled = name == "index_put_" and self._assigns_number and len(indices) == 1
            if not filled and any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self._refuse(function, "an index is a mask, whose True values have to be counted")
        if name in ("lift_fresh", "lift") and on_device and self.device != "cpu":
            self._refuse(function, "a tensor is made of Python numbers, which are copied from pageable memory")
        host = [tensor for tensor in tensors if tensor.device.type != self.device and tensor.dim() > 0]
        if on_device and host:
            self._refuse(function, "a tensor of the host takes part")
        target = kwargs.get("device")
        moved = name == "_to_copy" and target is not None and torch.device(target).type != tensors[0].device.type
        if moved or (name in ("copy_", "copy") and len({tensor.device.type for tensor in tensors}) > 1):
            self._refuse(function, "values are copied between host and device")
        return function(*args, **kwargs)

    def _refuse(self, function, reason: str) -> None:
        raise WouldWait(f"{function} would wait for the device: {reason}")


@contextlib.contextmanager
def on_a_stand_in(without: Collection[str] = ()) -> Iterator[NeverWaits]:
    """Let tensors on "meta" take the paths of a GPU's, and watch.

    Args:
        without: native ops that count as not having a CUDA kernel. pair_dot never has one. It lives inside an
            opaque op and has no fake implementation. So the watch sees what runs instead of it.
    """
    kernels = library._KERNELS["cpu"] - {"pair_dot", "pair_dot_backward", *without}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(library._KERNELS, "meta", kernels)
        patch.setattr(checks, "WITHOUT_VALUES", frozenset())
        patch.setattr(torch, "autocast", lambda *args, **options: contextlib.nullcontext())  # unknown to "meta"
        with NeverWaits() as watch:
            yield watch
