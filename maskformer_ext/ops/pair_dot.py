"""Mask logits of matched queries only: the product of the pairs' embeddings with the features of their images.

The pairs of a batch lie sorted by image, and each needs the features of its own image. Gathering features would copy
C * h * w values per pair. Padding every image to the most crowded one would need B * T rows. So:

* the native ops ``pair_dot`` and ``pair_dot_backward`` multiply the pairs of one image as one matrix with its features:
  no copy, no padding. Where an image's pairs begin is read on the CPU for free; on a GPU, where reading would wait, a
  kernel finds it.
* float64, and devices without a kernel, take blocks of a few segments of all images at once (one batched product) and
  keep the rows that exist: shapes do not depend on values, the extra memory is one block, every sum has a fixed order.

Both sit in one opaque op, so ``torch.compile(fullgraph=True)`` sees neither loops nor values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from maskformer_ext.ops.support.checks import check_floating, check_integer, check_same_device, shape
from maskformer_ext.ops.support.library import allow_tf32, native, once_differentiable, register, transformed

_OP = "pair_dot"
_BLOCK = 32  # segments of each image that are multiplied at once where counts stay on the device


def pair_dot(pair_embed: Tensor, mask_features: Tensor, image_index: Tensor, max_segments: int) -> Tensor:
    """Multiply the mask embeddings of pairs with the features of their images.

    Args:
        pair_embed: (P, L, C) floating, of every pair in each of L decoder layers.
        mask_features: (B, C, h, w) floating.
        image_index: (P,) int64, ascending, -1 in the rows at the end that are no pair.
        max_segments: at least the number of pairs of every image.

    Returns:
        (P, L, h, w) in the promoted dtype; 0 in rows that are no pair.

    Raises:
        TypeError: pair_embed or mask_features is not floating, or image_index is not int64.
        ValueError: shapes or devices do not fit.
        RuntimeError: on the CPU, image_index does not ascend or names an image that does not exist.

    Source: MaskFormer (arXiv 2107.06278), section 3.3: mask prediction by dot product, for matched queries only.
    """
    _check(pair_embed, mask_features, image_index)
    dtype = torch.promote_types(pair_embed.dtype, mask_features.dtype)
    flat = mask_features.to(dtype).flatten(2)
    # the opaque op's formula is for reverse mode only, its blocks are plain PyTorch
    multiply = _forward_by_block if transformed() else _opaque
    logits = multiply(pair_embed.to(dtype), flat, image_index, max_segments)
    return logits.unflatten(2, mask_features.shape[-2:])


def _check(pair_embed: Tensor, mask_features: Tensor, image_index: Tensor) -> None:
    check_floating(_OP, pair_embed=pair_embed, mask_features=mask_features)
    check_integer(_OP, image_index=image_index)
    check_same_device(_OP, pair_embed=pair_embed, mask_features=mask_features, image_index=image_index)
    if mask_features.dim() != 4:
        raise ValueError(f"{_OP}: mask_features must be (B, C, h, w), got {shape(mask_features)}")
    channels = mask_features.shape[1]
    if pair_embed.dim() != 3 or pair_embed.shape[2] != channels:
        raise ValueError(f"{_OP}: pair_embed must be (P, L, C) with C = {channels}, got {shape(pair_embed)}")
    pairs = pair_embed.shape[0]
    if image_index.dim() != 1 or image_index.shape[0] != pairs:
        raise ValueError(f"{_OP}: image_index must be (P,) with P = {pairs}, got {shape(image_index)}")
    if image_index.dtype != torch.int64:
        raise TypeError(f"{_OP}: image_index must be int64, got {image_index.dtype}")


@torch.library.custom_op("maskformer_ext::pair_dot_opaque", mutates_args=())
def _opaque(embed: Tensor, features: Tensor, image_index: Tensor, max_segments: int) -> Tensor:
    with torch.autocast(embed.device.type, enabled=False):
        if native("pair_dot", embed, features):
            return torch.ops.maskformer_ext.pair_dot(embed, features, image_index, allow_tf32(embed))
        return _forward_by_block(embed, features, image_index, max_segments)


@torch.library.custom_op("maskformer_ext::pair_dot_opaque_backward", mutates_args=())
def _opaque_backward(
    grad: Tensor, embed: Tensor, features: Tensor, image_index: Tensor, max_segments: int
) -> tuple[Tensor, Tensor]:
    with torch.autocast(embed.device.type, enabled=False):
        if native("pair_dot_backward", embed, features):
            return torch.ops.maskformer_ext.pair_dot_backward(grad, embed, features, image_index, allow_tf32(embed))
        return _backward_by_block(grad, embed, features, image_index, max_segments)


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    embed, features, image_index, ctx.max_segments = inputs
    ctx.save_for_backward(embed, features, image_index)


def _backward(ctx: Any, grad: Tensor) -> tuple:
    grad_embed, grad_features = _opaque_backward(grad.contiguous(), *ctx.saved_tensors, ctx.max_segments)
    return grad_embed, grad_features, None, None


def _fake(embed: Tensor, features: Tensor, image_index: Tensor, tf32: bool = False) -> Tensor:
    return embed.new_empty(*embed.shape[:2], features.shape[2])


def _fake_backward(
    grad: Tensor, embed: Tensor, features: Tensor, image_index: Tensor, tf32: bool = False
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(embed, memory_format=torch.contiguous_format), torch.empty_like(features)


_opaque.register_fake(lambda embed, features, image_index, max_segments: _fake(embed, features, image_index))
_opaque_backward.register_fake(lambda *inputs: _fake_backward(*inputs[:4]))
_opaque.register_autograd(_backward, setup_context=_setup_context)
_opaque_backward.register_autograd(once_differentiable(_OP, "use torch.func"))
register(_OP, fake=_fake)
register(f"{_OP}_backward", fake=_fake_backward)


def _blocks(image_index: Tensor, batch: int, max_segments: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for blocks of segments of all images, the row of each (B, S) and whether it exists."""
    image = torch.arange(batch, device=image_index.device)
    counts = (image_index == image[:, None]).sum(1, keepdim=True)
    start = counts.cumsum(0) - counts
    for first in range(0, max_segments, _BLOCK):
        segment = torch.arange(first, min(first + _BLOCK, max_segments), device=image_index.device)
        exists = segment < counts
        yield torch.where(exists, start + segment, len(image_index)), exists


def _forward_by_block(embed: Tensor, features: Tensor, image_index: Tensor, max_segments: int) -> Tensor:
    rows, layers, _ = embed.shape
    out = embed.new_zeros(rows + 1, layers, features.shape[2])  # the last row takes what does not exist
    for row, exists in _blocks(image_index, len(features), max_segments):
        block = _take(embed, row, exists)
        out = out.index_copy(
            0, row.flatten(), torch.bmm(block, features).reshape(row.numel(), layers, features.shape[2])
        )
    return out[:rows].contiguous()


def _backward_by_block(
    grad: Tensor, embed: Tensor, features: Tensor, image_index: Tensor, max_segments: int
) -> tuple[Tensor, Tensor]:
    rows, layers, channels = embed.shape
    grad_embed = embed.new_zeros(rows + 1, layers, channels)
    grad_features = torch.zeros_like(features)
    for row, exists in _blocks(image_index, len(features), max_segments):
        block, grad_block = _take(embed, row, exists), _take(grad, row, exists)
        product = torch.bmm(grad_block, features.mT).reshape(row.numel(), layers, channels)
        grad_embed.index_copy_(0, row.flatten(), product)
        grad_features += torch.bmm(block.mT, grad_block)
    return grad_embed[:rows].contiguous(), grad_features


def _take(x: Tensor, row: Tensor, exists: Tensor) -> Tensor:
    """Gather rows of (P, L, N) as (B, S * L, N), 0 where they do not exist."""
    taken = x[row.clamp(max=max(len(x) - 1, 0))] if len(x) else x.new_zeros(*row.shape, *x.shape[1:])
    return taken.masked_fill(~exists[..., None, None], 0).flatten(1, 2)
