"""Gives the tests the CUDA kernels: their host build, or, where there is a GPU, the CUDA library itself.

With MASKFORMER_EXT_CUDA_SHIM, the host build's file, they run on the host (tools/test_cuda_shim.py); without it, on a
GPU, or not at all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maskformer_ext.ops import _library

SHIM = os.environ.get("MASKFORMER_EXT_CUDA_SHIM")
ON_GPU = SHIM is None and torch.cuda.is_available() and _library.CUDA_ERROR is None
sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))
if ON_GPU:
    collect_ignore = ["test_stand_in.py"]
elif SHIM is None:
    collect_ignore_glob = ["test_*.py"]
else:
    _LIBRARY = torch.library.Library("maskformer_ext_shim", "DEF")
    for name in sorted(_library._KERNELS["cpu"]):
        schema = str(getattr(torch.ops.maskformer_ext, name.partition(".")[0]).default._schema)
        _LIBRARY.define(schema.removeprefix("maskformer_ext::"))
    torch.ops.load_library(SHIM)


def same_layout(tensor: Tensor, device: str) -> Tensor:
    """Copy a tensor to a device with its strides, and with what lies between its elements."""
    whole = tensor.as_strided((tensor.untyped_storage().nbytes() // tensor.element_size(),), (1,), 0)
    return whole.to(device, copy=True).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


class OnGpu:
    """The ops of the CUDA library for tensors of the CPU."""

    def __init__(self, device: str = "cuda") -> None:
        self.device = device

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self.device == "cuda" and name not in _library._KERNELS["cuda"]:
            pytest.skip(f"{name} has no CUDA kernel")

        def call(*arguments: Any, **options: Any) -> Any:
            moved = [same_layout(x, self.device) if isinstance(x, Tensor) else x for x in arguments]
            result = getattr(torch.ops.maskformer_ext, name)(*moved, **options)
            return result.cpu() if isinstance(result, Tensor) else tuple(part.cpu() for part in result)

        return call


@pytest.fixture(autouse=SHIM is not None)
def rubbish_in_new_memory() -> Iterator[None]:
    """Let whatever torch allocates hold NaN or the largest integer, so that reading what nobody wrote shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def shim():
    """The ops as the CUDA kernels compute them, on CPU tensors."""
    return OnGpu() if ON_GPU else torch.ops.maskformer_ext_shim
