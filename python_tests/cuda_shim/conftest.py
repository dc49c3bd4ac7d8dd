"""Loads the CUDA kernels' host build, `torch.ops.maskformer_ext_shim`; see tools/test_cuda_shim.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from maskformer_ext.ops import _library

SHIM = os.environ.get("MASKFORMER_EXT_CUDA_SHIM")
if SHIM is None:
    collect_ignore_glob = ["test_*.py"]
else:
    sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))
    _LIBRARY = torch.library.Library("maskformer_ext_shim", "DEF")
    for name in sorted(_library._KERNELS["cpu"]):
        schema = str(getattr(torch.ops.maskformer_ext, name.partition(".")[0]).default._schema)
        _LIBRARY.define(schema.removeprefix("maskformer_ext::"))
    torch.ops.load_library(SHIM)


@pytest.fixture
def shim():
    """The ops as the CUDA kernels compute them, on CPU tensors."""
    return torch.ops.maskformer_ext_shim
