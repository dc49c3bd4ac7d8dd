"""The model configurations of the original's recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maskformer_ext.config import ModelConfig, OptimizerConfig

ROOT = Path(__file__).parent.parent / "golden"
RECIPES: dict[str, dict[str, Any]] = json.loads((ROOT / "recipes.json").read_text())

_ARCHITECTURES = {
    "MaskFormerHead": "maskformer",
    "PerPixelBaselineHead": "per_pixel_baseline",
    "PerPixelBaselinePlusHead": "per_pixel_baseline_plus",
}
_SWINS = {(96, 6): "swin_tiny", (96, 18): "swin_small", (128, 18): "swin_base", (192, 18): "swin_large"}


def model_config(recipe: str) -> ModelConfig:
    """Translate the ``model`` part of a recipe."""
    model = RECIPES[recipe]["model"]
    head, transformer, swin = model["sem_seg_head"], model["mask_former"], model["swin"]
    if swin:
        backbone = _SWINS[swin["embed_dim"], swin["depths"][2]]
    else:
        backbone = f"resnet{model['resnets']['depth']}" + "c" * (model["resnets"]["stem_type_used"] == "deeplab")
    encoder = head["pixel_decoder_name"] == "TransformerEncoderPixelDecoder"
    return ModelConfig(
        architecture=_ARCHITECTURES[head["name"]],
        backbone=backbone,
        num_classes=head["num_classes"],
        num_queries=transformer["num_object_queries"],
        pixel_decoder="transformer_encoder" if encoder else "fpn",
        encoder_layers=head["transformer_enc_layers"],
    )


def optimizer_config(recipe: str) -> OptimizerConfig:
    """Translate the ``optim`` part of a recipe."""
    optim = RECIPES[recipe]["optim"]
    return OptimizerConfig(
        lr=optim["base_lr"],
        backbone_multiplier=optim["backbone_multiplier"],
        weight_decay=optim["weight_decay"],
        weight_decay_norm=optim["weight_decay_norm"],
        weight_decay_embed=optim["weight_decay_embed"],
    )
