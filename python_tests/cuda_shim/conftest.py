"""Gives the tests the CUDA kernels: their host build, or, where there is a GPU, the CUDA library itself.

* With ``MASKFORMER_EXT_CUDA_SHIM``, the host build's file, they run on the host (tools/test_cuda_shim.py).
* Without it they run on a GPU, or not at all.
* With ``MASKFORMER_EXT_CUDA_HARNESS=cpu`` the CPU's kernels are called as those of a GPU would be, so that what only a
  GPU runs of these files is tested without one (python_tests/test_gpu_harness.py).
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

from maskformer_ext.ops.support import library

SHIM = os.environ.get("MASKFORMER_EXT_CUDA_SHIM")
HARNESS = os.environ.get("MASKFORMER_EXT_CUDA_HARNESS")
ON_GPU = SHIM is None and torch.cuda.is_available() and library.CUDA_ERROR is None
DEVICE = HARNESS or ("cuda" if ON_GPU else "cpu")
"""Where the tensors of a test are when a kernel of the CUDA library is called for them."""
sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))
if ON_GPU or HARNESS:
    collect_ignore = ["test_stand_in.py"]
elif SHIM is None:
    collect_ignore_glob = ["test_*.py"]
else:
    _LIBRARY = torch.library.Library("maskformer_ext_shim", "DEF")
    for name in sorted(library._KERNELS["cpu"]):
        schema = str(getattr(torch.ops.maskformer_ext, name.partition(".")[0]).default._schema)
        _LIBRARY.define(schema.removeprefix("maskformer_ext::"))
    torch.ops.load_library(SHIM)

cuda_kernels_only = pytest.mark.skipif(HARNESS == "cpu", reason="of what only the kernels for CUDA do")


def same_layout(tensor: Tensor, device: str) -> Tensor:
    """Copy a tensor to a device with its strides, and with what lies between its elements."""
    whole = tensor.as_strided((tensor.untyped_storage().nbytes() // tensor.element_size(),), (1,), 0)
    return whole.to(device, copy=True).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


class OnGpu:
    """The ops of the CUDA library for tensors of the CPU."""

    def __init__(self, device: str = "cuda") -> None:
        self.device = device

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self.device == "cuda" and name not in library._KERNELS["cuda"]:
            pytest.skip(f"{name} has no CUDA kernel")
        op = getattr(torch.ops.maskformer_ext, name)
        written = [a.name for a in op.default._schema.arguments if a.alias_info is not None and a.alias_info.is_write]

        def call(*arguments: Any, **options: Any) -> Any:
            names = [argument.name for argument in op.default._schema.arguments]
            given = dict(zip(names, arguments, strict=False)) | options
            moved = {
                key: same_layout(value, self.device) if isinstance(value, Tensor) else value
                for key, value in given.items()
            }
            result = op(**moved)
            for key in written:
                given[key].copy_(moved[key])
            return back(result)

        return call


def back(result: Any) -> Any:
    """Bring what an op returns to the CPU: a tensor, several, or nothing."""
    if isinstance(result, Tensor):
        return result.cpu()
    return None if result is None else tuple(back(part) for part in result)


@pytest.fixture(autouse=SHIM is not None)
def rubbish_in_new_memory() -> Iterator[None]:
    """Let whatever torch allocates hold NaN or the largest integer, so that reading what nobody wrote shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def shim():
    """The ops as the CUDA kernels compute them, on CPU tensors."""
    return torch.ops.maskformer_ext_shim if SHIM else OnGpu(DEVICE)
