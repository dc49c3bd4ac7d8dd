"""Mask logits from mask embeddings: one dot product per query and pixel."""

import math
from typing import Any

import torch
from torch import Tensor

from maskformer_ext.ops.support import checks
from maskformer_ext.ops.support.library import allow_tf32, native, register, transformed, without_autocast

_OP = "mask_dot"
_ACTIVATIONS = ("none", "sigmoid", "binary")  # the kernel's numbers
_16_BIT = (torch.bfloat16, torch.float16)


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
        TypeError: an input or ``out_dtype`` is not floating.
        ValueError: shapes or devices do not fit, or the activation is unknown.

    Source: MaskFormer (arXiv 2107.06278), section 3.3: mask prediction by dot product.
    """
    check_embeddings(_OP, mask_embed, mask_features)
    checks.check_choice(_OP, "activation", activation, _ACTIVATIONS)
    promoted = torch.promote_types(mask_embed.dtype, mask_features.dtype)
    result = (torch.bool if activation == "binary" else promoted) if out_dtype is None else out_dtype
    _check_out_dtype(result, activation)
    # A plain product is torch's own business where it has instructions for it: 16-bit matrices, and all on a GPU.
    plain = activation == "none" and mask_embed.dtype == mask_features.dtype == result
    torchs = plain and (result in _16_BIT or mask_embed.device.type == "cuda")
    torchs = torchs or torch.compiler.is_exporting()  # an exported program runs where this library is not
    if native(_OP, mask_embed, mask_features) and not torchs and result in (torch.bool, torch.float32, *_16_BIT):
        return torch.ops.maskformer_ext.mask_dot(
            mask_embed, mask_features, _ACTIVATIONS.index(activation), result, allow_tf32(mask_embed)
        )
    return mask_dot_reference(mask_embed, mask_features, activation, result)


def _check_out_dtype(dtype: torch.dtype, activation: str) -> None:
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{_OP}: out_dtype must be a torch.dtype, got {checks.shown(dtype)}")
    if dtype in checks.FLOATING or (activation == "binary" and dtype in (torch.bool, torch.uint8)):
        return
    choices = "bool, uint8 or floating" if activation == "binary" else "floating"
    raise TypeError(f"{_OP}: out_dtype must be {choices} with activation {activation}, got {dtype}")


def mask_dot_reference(mask_embed: Tensor, mask_features: Tensor, activation: str, result: torch.dtype) -> Tensor:
    """Compute ``mask_dot`` in plain PyTorch, of dtype ``result``; the other arguments are those of ``mask_dot``."""
    promoted = torch.promote_types(mask_embed.dtype, mask_features.dtype)
    compute = torch.promote_types(promoted, result) if result.is_floating_point else promoted
    # Only where backward, too, will run under autocast: the plain product has more kinds of derivatives.
    under_autocast = not mask_embed.is_meta and torch.is_autocast_enabled(mask_embed.device.type)
    multiply = _Product.apply if under_autocast and not transformed() else _product
    with without_autocast(mask_embed):
        logits = multiply(mask_embed.to(compute), mask_features.to(compute))
    if activation == "binary":
        return (logits > 0).to(result)
    return (logits.sigmoid() if activation == "sigmoid" else logits).to(result)


def _product(mask_embed: Tensor, mask_features: Tensor) -> Tensor:
    *layers, batch, queries, channels = mask_embed.shape
    depth = math.prod(layers)
    height, width = mask_features.shape[-2:]
    # All layers of an image are rows of one matrix: one product per image, which reads its features once.
    rows = mask_embed.reshape(depth, batch, queries, channels).transpose(0, 1).reshape(batch, depth * queries, channels)
    logits = torch.bmm(rows, mask_features.flatten(-2)).view(batch, depth, queries, height, width)
    return logits.transpose(0, 1).reshape(*layers, batch, queries, height, width)


def _product_gradients(grad: Tensor, mask_embed: Tensor, mask_features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of ``_product``, all of one dtype."""
    *layers, batch, queries, channels = mask_embed.shape
    depth = math.prod(layers)
    # (B, L * Q, h * w): all layers of an image are rows of one matrix, as in _product
    pixels = grad.shape[-2] * grad.shape[-1]
    rows = grad.reshape(depth, batch, queries, pixels).transpose(0, 1).flatten(1, 2)
    grad_embed = torch.bmm(rows, mask_features.flatten(2).mT).view(batch, depth, queries, channels).transpose(0, 1)
    embed = mask_embed.reshape(depth, batch, queries, channels).transpose(0, 1).flatten(1, 2)
    grad_features = torch.bmm(embed.mT, rows).view(mask_features.shape)
    return grad_embed.reshape(mask_embed.shape), grad_features


class _Product(torch.autograd.Function):
    """``_product``, whose gradients are computed in the inputs' dtype where backward runs under autocast."""

    @staticmethod
    def forward(mask_embed: Tensor, mask_features: Tensor) -> Tensor:
        return _product(mask_embed, mask_features)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        with without_autocast(grad):
            return _product_gradients(grad, *ctx.saved_tensors)


def check_embeddings(op: str, mask_embed: Tensor, mask_features: Tensor) -> None:
    """Raise TypeError or ValueError unless embeddings and features can be multiplied."""
    checks.check_floating(op, mask_embed=mask_embed, mask_features=mask_features)
    checks.check_same_device(op, mask_embed=mask_embed, mask_features=mask_features)
    if mask_features.dim() != 4:
        raise ValueError(f"{op}: mask_features must be (B, C, h, w), got {checks.shape(mask_features)}")
    batch, channels = mask_features.shape[:2]
    if mask_embed.dim() < 3 or mask_embed.shape[-3] != batch or mask_embed.shape[-1] != channels:
        raise ValueError(
            f"{op}: mask_embed must be (..., B, Q, C) with B = {batch} and C = {channels}, as mask_features, "
            f"got {checks.shape(mask_embed)}"
        )


def _fake(
    mask_embed: Tensor, mask_features: Tensor, activation: int, dtype: torch.dtype, allow_tf32: bool = False
) -> Tensor:
    return mask_embed.new_empty((*mask_embed.shape[:-1], *mask_features.shape[-2:]), dtype=dtype)


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    mask_embed, mask_features, activation, *_ = inputs
    ctx.activation = _ACTIVATIONS[activation]
    # a 16-bit probability is too coarse for its slope near 0 and 1
    keep = ctx.activation == "sigmoid" and output.dtype == torch.float32
    ctx.save_for_backward(mask_embed, mask_features, output if keep else None)


def _backward(ctx: Any, grad: Tensor) -> tuple:
    if ctx.activation == "binary":
        return None, None, None, None, None
    with without_autocast(grad):
        return *_gradients(ctx, grad), None, None, None


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    mask_embed, mask_features, probability = ctx.saved_tensors
    grad = grad.float()
    if ctx.activation == "sigmoid":
        if probability is None:
            probability = mask_dot(mask_embed, mask_features, activation="sigmoid", out_dtype=torch.float32)
        grad = grad * (probability * (1 - probability))
    grad_embed, grad_features = _product_gradients(grad, mask_embed.float(), mask_features.float())
    return grad_embed.to(mask_embed.dtype), grad_features.to(mask_features.dtype)


register(_OP, fake=_fake, backward=_backward, setup_context=_setup_context)
