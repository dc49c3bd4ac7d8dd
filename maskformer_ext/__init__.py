"""MaskFormer on fused CPU and CUDA kernels.

Importing the package is light; `maskformer_ext.ops` needs torch and numpy only, the names below bring the model.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "MaskFormer": "maskformer_ext.modeling.maskformer",
    "PerPixelBaseline": "maskformer_ext.modeling.per_pixel",
    "build_model": "maskformer_ext.modeling.build",
}
__all__ = ["MaskFormer", "PerPixelBaseline", "build_model"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        try:
            return getattr(importlib.import_module(_LAZY[name]), name)
        except ImportError as error:
            from maskformer_ext.extras import missing_package

            raise (missing_package(error) or error) from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
