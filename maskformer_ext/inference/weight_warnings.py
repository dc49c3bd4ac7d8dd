"""Warn where a model's weights make its results meaningless: they were never trained, or are not finite."""

from __future__ import annotations

import warnings
from weakref import WeakKeyDictionary

from torch import nn

from maskformer_ext.modeling.weights import nonfinite_weights, weights_version

_told: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # models that were looked at, and their weights' version


def warn_about_weights(model: nn.Module) -> None:
    """Warn where a model's results can mean nothing, once as long as its weights stay as they are."""
    version = weights_version(model)
    if _told.get(model) == version:
        return
    _told[model] = version
    if getattr(model, "is_untrained", False):
        warnings.warn(
            "segment: the model's weights are untrained (random), so the result means nothing: load some, for "
            "instance with MaskFormer.from_pretrained(...) or load_state_dict",
            stacklevel=3,
        )
    problem = nonfinite_weights(model)
    if problem is not None:
        warnings.warn(f"segment: the model's weights are not finite: {problem}", stacklevel=3)
