"""Where each query may attend: the signs of its mask logits at the size of a feature level."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from maskformer_ext.ops.mask_dot import check_embeddings
from maskformer_ext.ops.support import checks
from maskformer_ext.ops.support.library import allow_tf32, native, register, without_autocast
from maskformer_ext.ops.support.predictions import check_size

_OP = "attention_mask"


def attention_mask(mask_embed: Tensor, mask_features: Tensor, size: Sequence[int]) -> Tensor:
    """Compute the boolean masks of masked attention from embeddings, without storing a logit.

    A query may attend where its mask logit, resized bilinearly to ``size``, is not negative. Resizing is linear, so
    the features are resized and then multiplied. Features that already have ``size`` are taken as they are. A caller
    with several layers of one size resizes them once, by ``interpolate(..., mode="bilinear")``.

    Args:
        mask_embed: (B, Q, C) floating.
        mask_features: (B, C, h, w) floating.
        size: height and width (h', w') of the level that is attended to.

    Returns:
        (B, Q, h', w') bool, True where the query may attend: what ``scaled_dot_product_attention`` takes as
        ``attn_mask``, once flattened to (B, 1, Q, h' * w'). Where a query may attend nowhere, its row is all True.
        A NaN logit counts as not negative. No gradient.

    Raises:
        TypeError: an input is not floating, or ``size`` is no pair of integers.
        ValueError: shapes or devices do not fit.

    Source: Mask2Former (arXiv 2112.01527), section 3.2.1, equations 2 and 3.
    """
    _check(mask_embed, mask_features, size)
    height, width = size
    mask_embed, mask_features = mask_embed.detach(), mask_features.detach()
    if native(_OP, mask_embed, mask_features):
        return torch.ops.maskformer_ext.attention_mask(
            mask_embed, mask_features, (height, width), allow_tf32(mask_embed)
        )
    return attention_mask_reference(mask_embed, mask_features, (height, width))


def _fake(mask_embed: Tensor, mask_features: Tensor, size: Sequence[int], allow_tf32: bool = False) -> Tensor:
    return mask_embed.new_empty((*mask_embed.shape[:-1], *size), dtype=torch.bool)


register(_OP, fake=_fake)


def attention_mask_reference(mask_embed: Tensor, mask_features: Tensor, size: tuple[int, int]) -> Tensor:
    """Compute ``attention_mask`` in plain PyTorch; arguments are those of the op, checked."""
    dtype = torch.float64 if torch.float64 in (mask_embed.dtype, mask_features.dtype) else torch.float32
    with without_autocast(mask_embed):
        features = mask_features.to(dtype)
        if not features.shape[1]:  # which interpolate refuses
            features = features.new_zeros((*features.shape[:2], *size))
        elif features.shape[-2:] != size:
            features = F.interpolate(features, size=size, mode="bilinear", align_corners=False)
        logits = torch.bmm(mask_embed.to(dtype), features.flatten(-2))
    attends = ~(logits < 0)
    attends |= ~attends.any(-1, keepdim=True)
    return attends.unflatten(-1, size)


def _check(mask_embed: Tensor, mask_features: Tensor, size: Sequence[int]) -> None:
    check_embeddings(_OP, mask_embed, mask_features)
    if mask_embed.dim() != 3:
        raise ValueError(f"{_OP}: mask_embed must be (B, Q, C), got {checks.shape(mask_embed)}")
    check_size(_OP, "size", size)
    if 0 in mask_features.shape[-2:]:
        raise ValueError(f"{_OP}: mask_features must have at least one pixel, got {checks.shape(mask_features)}")
