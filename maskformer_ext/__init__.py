"""MaskFormer on fused CPU and CUDA kernels.

Importing the package is light; `maskformer_ext.ops` needs torch and numpy only, the names below bring the model.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "MaskFormer": "maskformer_ext.checkpoints.models",
    "PerPixelBaseline": "maskformer_ext.checkpoints.models",
    "build_model": "maskformer_ext.checkpoints.models",
}
__all__ = ["MaskFormer", "PerPixelBaseline", "build_model"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        try:
            return getattr(importlib.import_module(_LAZY[name]), name)
        except ImportError as error:
            extras = importlib.import_module("maskformer_ext.cli.extras")
            raise (extras.missing_package(error) or error) from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
