"""Which criterion trains a network."""

from __future__ import annotations

from maskformer_ext.config import CriterionConfig
from maskformer_ext.errors import UserError
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.maskformer import MaskFormer
from maskformer_ext.modeling.per_pixel import PerPixelCriterion
from maskformer_ext.modeling.pixel_level import PixelLevelModule


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
