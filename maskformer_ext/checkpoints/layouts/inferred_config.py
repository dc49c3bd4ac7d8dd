"""Read off the shapes of weights, under the original's names, which network they belong to."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from maskformer_ext.checkpoints.layouts.original import HEAD, PIXEL_DECODER, PREDICTOR
from maskformer_ext.config import ModelConfig
from maskformer_ext.errors import UserError

# channels at stride 4, blocks of the third stage, side of the windows
_SWINS = {
    (96, 6, 7): "swin_tiny",
    (96, 18, 7): "swin_small",
    (128, 18, 12): "swin_base",
    (192, 18, 12): "swin_large",
}
# blocks of the third stage, whether the stem is deep
_RESNETS = {(6, False): "resnet50", (23, False): "resnet101", (23, True): "resnet101c"}


class NoHead(UserError):
    """Weights of no MaskFormer, but maybe of a backbone."""


def infer_model_config(weights: Mapping[str, Tensor], backbone: str | None = None) -> ModelConfig:
    """Return the sizes of the network that weights belong to.

    What shapes do not tell keeps its default: the number of attention heads, dropout, and how images are normalised
    and padded.

    Args:
        weights: tensors under the original's names (version with ``pixel_decoder.``); this package's options may add
            their own.
        backbone: its name; None: that which its weights show.

    Raises:
        NoHead: if they have no head at all.
        UserError: if they are no MaskFormer or per-pixel baseline on a backbone that is known here.
    """
    if not any(name.startswith(HEAD) for name in weights):
        some = ", ".join(list(weights)[:2])
        raise NoHead(
            "checkpoint: there are no weights of a MaskFormer's head under a name that is known here; its "
            f"{len(weights)} names are {some} and so on; those of a backbone alone go into model.backbone_weights"
        )
    config = ModelConfig(backbone=backbone or infer_backbone(weights))
    encoder = any(name.startswith(PIXEL_DECODER + "transformer.encoder.layers.") for name in weights)
    config.pixel_decoder = "transformer_encoder" if encoder else "fpn"
    config.encoder_layers = _layers(weights, PIXEL_DECODER + "transformer.encoder.layers.") or config.encoder_layers
    config.mask_dim, config.pixel_decoder_dim = _shape(weights, PIXEL_DECODER + "mask_features.weight", 4)[:2]
    config.mask_position = PIXEL_DECODER + "position_proj.weight" in weights
    if PREDICTOR + "weight" in weights:
        config.architecture = "per_pixel_baseline"
        config.num_classes = _shape(weights, PREDICTOR + "weight", 4)[0]
        return config
    queries, config.hidden_dim = _shape(weights, PREDICTOR + "query_embed.weight", 2)
    config.query_input = PREDICTOR + "query_input.weight" in weights
    config.box_head = any(name.startswith("box_head.") for name in weights)
    config.decoder_layers = _layers(weights, PREDICTOR + "transformer.decoder.layers.")
    config.feedforward_dim = _shape(weights, PREDICTOR + "transformer.decoder.layers.0.linear1.weight", 2)[0]
    if PREDICTOR + "class_embed.weight" in weights:
        config.num_queries = queries
        config.num_classes = _shape(weights, PREDICTOR + "class_embed.weight", 2)[0] - 1
    else:
        config.architecture = "per_pixel_baseline_plus"
        config.num_classes = queries
    return config


def infer_backbone(weights: Mapping[str, Tensor]) -> str:
    """Return the name of the ResNet or Swin whose weights are among those given, ``backbone.`` before their names.

    Raises:
        UserError: if it is none of the original's.
    """
    if "backbone.patch_embed.proj.weight" in weights:
        table = _shape(weights, "backbone.layers.0.blocks.0.attn.relative_position_bias_table", 2)[0]
        window = (round(table**0.5) + 1) // 2
        sizes = (
            _shape(weights, "backbone.patch_embed.proj.weight", 4)[0],
            _count(weights, "backbone.layers.2.blocks."),
            window,
        )
        if sizes in _SWINS:
            return _SWINS[sizes]
        raise UserError(
            "checkpoint: the Swin must be tiny, small (window 7), base or large (window 12), "
            "got {} channels, {} blocks in the third stage and windows of {}".format(*sizes)
        )
    if "backbone.stem.conv1.weight" in weights:
        depth = (_count(weights, "backbone.res4."), "backbone.stem.conv3.weight" in weights)
        if depth in _RESNETS and "backbone.res2.0.conv3.weight" in weights:
            return _RESNETS[depth]
        stem = "a deep" if depth[1] else "a plain"
        raise UserError(
            f"checkpoint: the ResNet must be 50, 101 or 101c, got {depth[0]} blocks in the third stage and {stem} stem"
        )
    raise UserError("checkpoint: backbone.patch_embed.proj.weight or backbone.stem.conv1.weight is missing")


def _shape(weights: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in weights:
        raise UserError(f"checkpoint: {name} is missing")
    shape = tuple(weights[name].shape)
    if len(shape) != dimensions or not all(shape):
        raise UserError(f"checkpoint: {name} must have {dimensions} dimensions above 0, got {shape}")
    return shape


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Count the modules of a list by its last number."""
    return max(_numbers(weights, prefix), default=-1) + 1


def _layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Count the modules of a list of any length, which must be there from the first to the last."""
    numbers = _numbers(weights, prefix)
    for expected, number in enumerate(sorted(numbers)):
        if number != expected:
            raise UserError(f"checkpoint: {prefix}{expected} is missing, but there is {prefix}{number}")
    return len(numbers)


def _numbers(weights: Mapping[str, Tensor], prefix: str) -> set[int]:
    pattern = re.compile(re.escape(prefix) + r"(\d{1,9})\.")
    return {int(found[1]) for name in weights if (found := pattern.match(name))}
