"""What the caller of `segment` leaves open: the model knows its own options and its things."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from torch import nn

from maskformer_ext.config import InferenceConfig
from maskformer_ext.data.types import DatasetInfo


def settings_of(model: nn.Module, config: InferenceConfig | None, options: Mapping[str, Any]) -> InferenceConfig:
    """Return the options for inference.

    Args:
        model: whose ``recipe`` has them where ``config`` is None; without a recipe they are the defaults.
        config: given by the caller.
        options: single fields that replace those of ``config``.

    Raises:
        TypeError: if ``config`` is no ``InferenceConfig``, or an option is not a field of it.
    """
    if config is None:
        recipe = getattr(model, "recipe", None)
        config = InferenceConfig() if recipe is None else recipe.inference
    if not isinstance(config, InferenceConfig):
        raise TypeError(
            f"segment: config must be an InferenceConfig, such as model.recipe.inference, got {type(config).__name__}"
        )
    known = [field.name for field in fields(config)]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, [*known, *_ARGUMENTS], n=1)
            hint = f"did you mean {near[0]}?" if near else f"the options are {', '.join(known)}"
            raise TypeError(f"segment: there is no option {option!r}: {hint}")
    return replace(config, **options)


def things_of(info: DatasetInfo | None) -> tuple[int, ...] | None:
    """Return the ids of the things that classes name; None, which means all classes, where they name none."""
    return None if info is None or not info.thing_classes else info.thing_classes


_ARGUMENTS = ("task", "size", "thing_classes", "config", "batch_size", "info")
