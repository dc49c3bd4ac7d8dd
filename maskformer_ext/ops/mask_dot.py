"""Mask logits from mask embeddings: one dot product a query and pixel."""

import math

import torch
from torch import Tensor

from maskformer_ext.ops import _checks

_OP = "mask_dot"
_ACTIVATIONS = ("none", "sigmoid", "binary")


def mask_dot(
    mask_embed: Tensor, mask_features: Tensor, *, activation: str = "none", out_dtype: torch.dtype | None = None
) -> Tensor:
    """Multiply every query's mask embedding with the features of every pixel.

    Args:
        mask_embed: (..., B, Q, C) floating; leading dimensions are decoder layers.
        mask_features: (B, C, h, w) floating, possibly of another dtype.
        activation: "none" gives logits, "sigmoid" probabilities, "binary" whether the logit is positive.
        out_dtype: dtype of the result; by default bool for "binary", otherwise the inputs' promoted dtype. A dtype
            wider than the inputs' receives the sums as they were accumulated, without rounding in between.

    Returns:
        (..., B, Q, h, w). "none" and "sigmoid" are differentiable.

    Raises:
        TypeError: an input is not floating.
        ValueError: shapes or devices do not fit, or the activation is unknown.

    Source: MaskFormer (arXiv 2107.06278), section 3.3: mask prediction by dot product.
    """
    _check_arguments(mask_embed, mask_features)
    _checks.check_choice(_OP, "activation", activation, _ACTIVATIONS)
    promoted = torch.promote_types(mask_embed.dtype, mask_features.dtype)
    result = torch.bool if activation == "binary" else promoted
    result = out_dtype or result
    compute = torch.promote_types(promoted, result) if result.is_floating_point else promoted
    with torch.autocast(mask_embed.device.type, enabled=False):
        logits = _product(mask_embed.to(compute), mask_features.to(compute))
    if activation == "binary":
        return (logits > 0).to(result)
    return (logits.sigmoid() if activation == "sigmoid" else logits).to(result)


def _product(mask_embed: Tensor, mask_features: Tensor) -> Tensor:
    *layers, batch, queries, channels = mask_embed.shape
    depth = math.prod(layers)
    height, width = mask_features.shape[-2:]
    # All layers of an image are rows of one matrix: one product an image, which reads its features once.
    rows = mask_embed.reshape(depth, batch, queries, channels).transpose(0, 1).reshape(batch, depth * queries, channels)
    logits = torch.bmm(rows, mask_features.flatten(-2)).view(batch, depth, queries, height, width)
    return logits.transpose(0, 1).reshape(*layers, batch, queries, height, width)


def _check_arguments(mask_embed: Tensor, mask_features: Tensor) -> None:
    _checks.check_floating(_OP, mask_embed=mask_embed, mask_features=mask_features)
    _checks.check_same_device(_OP, mask_embed=mask_embed, mask_features=mask_features)
    if mask_features.dim() != 4:
        raise ValueError(f"{_OP}: mask_features must be (B, C, h, w), got {_checks.shape(mask_features)}")
    batch, channels = mask_features.shape[:2]
    if mask_embed.dim() < 3 or mask_embed.shape[-3] != batch or mask_embed.shape[-1] != channels:
        raise ValueError(
            f"{_OP}: mask_embed must be (..., B, Q, C) with B = {batch} and C = {channels}, as mask_features, "
            f"got {_checks.shape(mask_embed)}"
        )
