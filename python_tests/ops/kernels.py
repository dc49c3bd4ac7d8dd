"""The ops as tests call them, on one kind of kernels: the CPU's, CUDA's on the host, or CUDA's on a GPU.

A test that takes the fixture `kernels` runs once per kind that this process has (see `kinds`):

* `cpu`: the CPU's kernels, in the usual process;
* `host_cuda`: the CUDA kernels on the host stand-in, in the process that tools/host_cuda.py starts;
* `cuda`: the CUDA kernels on a GPU, in the usual process, where there is a GPU.

Tensors of a test lie on the CPU. Where the kernels do not, arguments are moved and results are brought back.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from maskformer_ext import ops
from maskformer_ext.ops import catalog
from maskformer_ext.ops.support import library, value_checks
from maskformer_ext.ops.support.batch_targets import BatchTargets

HOST_CUDA = os.environ.get("MASKFORMER_EXT_HOST_CUDA")
"""The library with the CUDA kernels for the host, in the process that tests them."""
HARNESS = os.environ.get("MASKFORMER_EXT_CUDA_HARNESS") == "cpu"
"""Whether the CPU's kernels are called as those of a GPU would be, to test without a GPU what only a GPU runs here."""

SMALL = os.environ.get("MASKFORMER_EXT_SMALL_TESTS") == "1"
"""Whether the kernels run under a sanitizer, where large inputs take minutes."""


def kinds() -> list[str]:
    """Return the kinds of kernels that tests of this process run on."""
    if HOST_CUDA:
        return ["host_cuda"]
    if HARNESS:
        return ["cuda"]
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


class Kernels:
    """The ops on one kind of kernels: `kernels.dice_loss(...)` is `ops.dice_loss(...)` there.

    Attributes:
        kind: "cpu", "host_cuda" or "cuda".
        large: whether large inputs cost nothing: on a GPU, and not under a sanitizer.
        slow: whether every input should be small: on the stand-in, and under a sanitizer.
        native: the native ops: `kernels.native.dice_loss(...)` is `torch.ops.maskformer_ext.dice_loss(...)` there.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.device = "cuda" if kind == "cuda" and not HARNESS else "cpu"
        self.moves = kind == "cuda"
        self.large = self.device == "cuda" and not SMALL
        self.slow = kind == "host_cuda" or SMALL
        self.native = _Native(self)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(ops, name)
        (op,) = (op for op in catalog.OPS if name in op.functions)
        if op.cuda or self.kind == "cpu":  # elsewhere an op without CUDA kernels runs its reference
            self.require(*op.native)
        return self.call(function)

    def require(self, *native: str) -> None:
        """Fail unless there are kernels of this kind for native ops."""
        if library.REFERENCE:
            return
        kernels = library._KERNELS["cuda" if self.device == "cuda" else "cpu"]
        assert kernels.issuperset(native), f"{self.kind} has no kernels for {sorted({*native} - kernels)}"
        assert self.device != "cuda" or library._gpu_is_served(0)

    def call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of CPU tensors that calls one where the kernels are. Gradients find their way back."""
        if not self.moves:
            return function

        def moved(*arguments: Any, **options: Any) -> Any:
            given = [self._there(value) for value in arguments]
            return _back(function(*given, **{name: self._there(value) for name, value in options.items()}))

        return moved

    def of_the_cpu(self) -> AbstractContextManager:
        """Return a context in which the CPU's kernels compute what is called directly, not through this object."""
        return host_cuda.uninstalled() if self.kind == "host_cuda" else nullcontext()

    def _there(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return _Move.apply(value, self.device) if value.requires_grad else same_layout(value, self.device)
        return value.to(self.device) if isinstance(value, BatchTargets) else value


class _Native:
    """The native ops on one kind of kernels."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels

    def __getattr__(self, name: str) -> Callable[..., Any]:
        self._kernels.require(name)
        op = getattr(torch.ops.maskformer_ext, name)
        if not self._kernels.moves:
            return op
        schema = op.default._schema.arguments
        written = [a.name for a in schema if a.alias_info is not None and a.alias_info.is_write]

        def call(*arguments: Any, **options: Any) -> Any:
            given = dict(zip((argument.name for argument in schema), arguments, strict=False)) | options
            moved = {key: self._kernels._there(value) for key, value in given.items()}
            result = op(**moved)
            for key in written:
                given[key].copy_(moved[key])
            return _back(result)

        return call


def same_layout(tensor: Tensor, device: str) -> Tensor:
    """Copy a tensor to a device with its strides, and with what lies between its elements."""
    whole = tensor.as_strided((tensor.untyped_storage().nbytes() // tensor.element_size(),), (1,), 0)
    return whole.to(device, copy=True).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


class _Move(torch.autograd.Function):
    """`same_layout` with a gradient."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, device: str) -> Tensor:
        ctx.device = tensor.device
        return same_layout(tensor.detach(), device)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].to(ctx.device), None


def _back(result: Any) -> Any:
    """Bring what an op returns to the CPU: tensors, and what holds tensors."""
    if isinstance(result, Tensor):
        return result.cpu()
    if isinstance(result, tuple):
        return tuple(_back(part) for part in result)
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        fields = {field.name: _back(getattr(result, field.name)) for field in dataclasses.fields(result)}
        return type(result)(**fields)
    return result


def _without_list(op: Callable[..., Any], mask_logits: Tensor, *options: Any) -> Any:
    """Call `instance_masks` of a GPU as that of a CPU, which also takes a list of queries, the fifth option."""
    queries = options[4] if len(options) > 4 else None
    return op(mask_logits if queries is None else mask_logits[queries], *options[:4])


class HostCuda:
    """Puts the kernels of the stand-in in the place of the CPU's, below autograd, and takes them away again."""

    def __init__(self) -> None:
        self._installed: torch.library.Library | None = None
        self._before = library._KERNELS["cpu"], value_checks.may_read, value_checks.kernels_refuse
        if HOST_CUDA is None:
            return
        # The stand-in's library holds kernels only; it gets the schemas of the real ops.
        self._schemas = torch.library.Library("maskformer_ext_shim", "DEF")
        self._names = frozenset(name for op in catalog.OPS if op.cuda for name in op.native)
        for name in sorted(self._names):
            schema = str(getattr(torch.ops.maskformer_ext, name).default._schema)
            self._schemas.define(schema.removeprefix("maskformer_ext::"))
        torch.ops.load_library(HOST_CUDA)

    def install(self) -> None:
        """Let ops on the CPU run the stand-in's kernels, and let Python treat the CPU as a GPU."""
        self._installed = torch.library.Library("maskformer_ext", "IMPL")
        for name in sorted(self._names):
            op = getattr(torch.ops.maskformer_ext_shim, name).default
            kernel = partial(_without_list, op) if name == "instance_masks" else op
            self._installed.impl(name, kernel, "CPU", allow_override=True)
        library._KERNELS["cpu"] = self._names
        value_checks.may_read = lambda device: False
        value_checks.kernels_refuse = lambda device: False

    def uninstall(self) -> None:
        """Put the CPU's own kernels back."""
        assert self._installed is not None
        self._installed._destroy()
        self._installed = None
        library._KERNELS["cpu"], value_checks.may_read, value_checks.kernels_refuse = self._before

    @contextmanager
    def uninstalled(self) -> Iterator[None]:
        """Use the CPU's own kernels for a while."""
        self.uninstall()
        try:
            yield
        finally:
            self.install()


host_cuda = HostCuda()


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `kernels` once per kind, and one that is about CUDA kernels only on those."""
    if "kernels" not in metafunc.fixturenames:
        return
    found: list[Any] = [
        pytest.param(kind, marks=pytest.mark.gpu if kind == "cuda" and not HARNESS else ()) for kind in kinds()
    ]
    if metafunc.definition.get_closest_marker("cuda_kernels"):
        found = [param for param in found if param.values[0] != "cpu" and not HARNESS]
        found = found or [pytest.param("cpu", marks=pytest.mark.skip(reason="of what only the kernels for CUDA do"))]
    metafunc.parametrize("kernels", found, indirect=True, scope="session")
