"""Data sets, augmentation and loaders. Importing the package is light; the names below bring torch."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskformer_ext.data.build import build_dataset, build_loader
    from maskformer_ext.data.types import Batch, DatasetInfo, Sample, SampleDataset

_LAZY = {
    "build_dataset": "maskformer_ext.data.build",
    "build_loader": "maskformer_ext.data.build",
    "Batch": "maskformer_ext.data.types",
    "DatasetInfo": "maskformer_ext.data.types",
    "Sample": "maskformer_ext.data.types",
    "SampleDataset": "maskformer_ext.data.types",
}
__all__ = ["Batch", "DatasetInfo", "Sample", "SampleDataset", "build_dataset", "build_loader"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
