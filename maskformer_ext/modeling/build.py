"""Create a model from a recipe's name, a configuration, or keyword arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeAlias

from maskformer_ext.config import Config, CriterionConfig, ModelConfig
from maskformer_ext.errors import UserError
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.maskformer import MaskFormer
from maskformer_ext.modeling.per_pixel import PerPixelBaseline, PerPixelBaselinePlus, PerPixelCriterion
from maskformer_ext.modeling.pixel_level import PixelLevelModule

_Model: TypeAlias = MaskFormer | PerPixelBaseline | PerPixelBaselinePlus
_ARCHITECTURES: dict[str, Callable[[ModelConfig], _Model]] = {
    "maskformer": MaskFormer,
    "per_pixel_baseline": PerPixelBaseline,
    "per_pixel_baseline_plus": PerPixelBaselinePlus,
}


def build_model(config: str | Config | ModelConfig, *, pretrained_backbone: bool = False, **overrides: Any) -> _Model:
    """Create a model with fresh weights.

    Args:
        config: the name of a recipe or a YAML file, a whole configuration, or its ``model`` part.
        pretrained_backbone: load the weights that ``backbone_weights`` names, as training does; that may download them.
        overrides: fields of ``ModelConfig``, for instance ``num_queries=50``.

    Returns:
        The model; ``model.config`` is the ``ModelConfig`` it was built from.

    Raises:
        UserError: if a name or value is unknown or impossible.
    """
    if isinstance(config, str):
        from maskformer_ext.config_io import load_config

        config = load_config(config)
    model_config = config.model if isinstance(config, Config) else config
    settings = [field.name for field in fields(ModelConfig)]
    for name in overrides:
        if name not in settings:
            raise UserError(f"build_model: unknown model setting {name!r}; known are {', '.join(settings)}")
    model_config = replace(model_config, **overrides)
    if model_config.num_classes is None and isinstance(config, Config):
        model_config = replace(model_config, num_classes=_num_classes(config))
    if model_config.architecture not in _ARCHITECTURES:
        raise UserError(
            f"model.architecture must be one of {', '.join(_ARCHITECTURES)}, got {model_config.architecture!r}"
        )
    architecture = _ARCHITECTURES[model_config.architecture]
    if pretrained_backbone:
        return architecture(model_config)
    model = architecture(replace(model_config, backbone_weights=None))
    model.config = model_config
    return model


def build_criterion(model: PixelLevelModule, config: CriterionConfig) -> MaskFormerCriterion | PerPixelCriterion:
    """Create the criterion that trains ``model``."""
    if not isinstance(model, MaskFormer):
        return PerPixelCriterion(model.num_classes)
    if config.matching == "fixed" and model.config.num_queries < model.num_classes:
        raise UserError(
            f"criterion.matching=fixed needs a query for each of the {model.num_classes} classes, "
            f"got model.num_queries={model.config.num_queries}"
        )
    if config.matching == "box" and not model.config.box_head:
        raise UserError("criterion.matching=box needs predicted boxes: set model.box_head=true")
    return MaskFormerCriterion(model.num_classes, **vars(config))


def _num_classes(config: Config) -> int:
    """Ask the data set how many classes it has."""
    from maskformer_ext.data.build import build_dataset

    return build_dataset(config.data, "val").info.num_classes
