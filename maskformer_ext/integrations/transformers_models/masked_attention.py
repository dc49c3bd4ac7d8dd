"""Masked attention of Mask2Former and OneFormer: boolean masks without logits, and attention without its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.ops.attention_mask import attention_mask


class AttendedPixels:
    """Where the queries may attend on the levels of a decoder; features are resized once per level.

    Args:
        mask_features: (B, C, h, w).
        sizes: height and width of each level.
    """

    def __init__(self, mask_features: Tensor, sizes: Sequence[Sequence[int]]) -> None:
        self.mask_features = mask_features.detach()
        self.sizes = [(int(size[0]), int(size[1])) for size in sizes]
        self._resized: dict[int, Tensor] = {}

    def of(self, mask_embed: Tensor, level: int) -> Tensor:
        """Return (B, 1, Q, h' * w') bool for embeddings (B, Q, C): True where a query may attend."""
        if level not in self._resized:
            with torch.no_grad():
                self._resized[level] = _resize(self.mask_features, self.sizes[level])
        return attention_mask(mask_embed, self._resized[level], self.sizes[level]).flatten(2).unsqueeze(1)


def _resize(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize as bilinear ``interpolate`` does; where every pixel becomes the mean of four, without its copies."""
    factors = [old // new for old, new in zip(features.shape[-2:], size, strict=True)]
    exact = all(old == new * factor for old, new, factor in zip(features.shape[-2:], size, factors, strict=True))
    if not exact or any(factor % 2 for factor in factors):
        return F.interpolate(features, size=size, mode="bilinear", align_corners=False)
    (upper, lower), (left, right) = ((slice(n // 2 - 1, None, n), slice(n // 2, None, n)) for n in factors)
    above = features[..., upper, left] + features[..., upper, right]
    below = features[..., lower, left] + features[..., lower, right]
    return above.add_(below).mul_(0.25)


class Keys(list[Tensor]):
    """The position embeddings of the levels, with what is compared in attention: the features at their positions.

    Layers of one level share the sum, so that it is formed and kept for the gradient once.
    """

    def __init__(self, position_embeddings: Sequence[Tensor], features: Sequence[Tensor]) -> None:
        super().__init__(position_embeddings)
        self.placed = [pixels + position for pixels, position in zip(features, position_embeddings, strict=True)]


def keys_of(position_embeddings: Sequence[Tensor], features: Sequence[Tensor], level: int) -> Tensor:
    """Return the features of a level at their positions, formed already where the embeddings are `Keys`."""
    if isinstance(position_embeddings, Keys):
        return position_embeddings.placed[level]
    return features[level] + position_embeddings[level]


def as_blocked(attends: Tensor, heads: int) -> Tensor:
    """Turn what `AttendedPixels` returns into the mask of transformers: (B * heads, Q, S), True where blocked."""
    return ~attends.expand(-1, heads, -1, -1).flatten(0, 1)


def is_attended(mask: Tensor | None) -> bool:
    """Return whether a mask is of the form that `AttendedPixels` returns."""
    return mask is not None and mask.dim() == 4


def can_skip_weights(attention: nn.Module) -> bool:
    """Return whether `cross_attention` computes what this module computes."""
    return (
        type(attention) is nn.MultiheadAttention
        and attention.in_proj_weight is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
        and not attention.batch_first
        and not (attention.training and attention.dropout)
    )


def cross_attention(
    attention: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, attends: Tensor | None = None
) -> Tensor:
    """Attend as ``attention`` does, without the weights that it would return.

    Args:
        attention: a module for which `can_skip_weights`.
        query: (Q, B, E).
        key: (S, B, E).
        value: (S, B, E).
        attends: (B, 1, Q, S) bool, for all heads; None where every query attends everywhere.

    Returns:
        (Q, B, E).
    """
    biases = (None,) * 3 if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
    projected: list[Tensor] = []
    for states, weight, bias in zip((query, key, value), attention.in_proj_weight.chunk(3), biases, strict=True):
        # with images in front, as pixels lie in memory: else each product copies them, and keeps the copy
        heads = F.linear(states.transpose(0, 1), weight, bias).unflatten(-1, (attention.num_heads, -1))
        projected.append(heads.transpose(1, 2))
    queries, keys, values = projected
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=attends)
    return F.linear(out.permute(2, 0, 1, 3).flatten(2), attention.out_proj.weight, attention.out_proj.bias)
