"""Models from files and back: runs, folders of this package and of transformers, the original's files, the hub."""

import importlib
from typing import TYPE_CHECKING, Any

from maskformer_ext.checkpoints.layouts.original import load_original, original_name

if TYPE_CHECKING:
    from maskformer_ext.checkpoints.models import load_checkpoint, load_model

_LATER = ("load_checkpoint", "load_model")  # they bring timm
__all__ = ["load_checkpoint", "load_model", "load_original", "original_name"]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module("maskformer_ext.checkpoints.models"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
