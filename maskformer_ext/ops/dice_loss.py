"""Dice loss of each mask."""

from typing import Any

import torch
from torch import Tensor

from maskformer_ext.ops.support.checks import check_choice, check_floating, check_same_device, check_target_dtype, shape
from maskformer_ext.ops.support.library import native, once_differentiable, register

_OP = "dice_loss"
_REDUCTIONS = ("none", "mean", "sum")


def dice_loss(mask_logits: Tensor, targets: Tensor, *, reduction: str = "none") -> Tensor:
    """Compute 1 - (2 sum(s t) + 1) / (sum(s) + sum(t) + 1) of each mask, with s the sigmoid of the logits.

    Args:
        mask_logits: (N, ...) floating.
        targets: of the same shape; bool, uint8 (nonzero is inside) or floating between 0 and 1.
        reduction: "none", "mean" or "sum" over the N masks.

    Returns:
        (N,) float32, or a scalar (float64 where an input is).

    Raises:
        TypeError: mask_logits is not floating, or targets is of another integer dtype.
        ValueError: the shapes or devices differ, or reduction is unknown.

    Source: Milletari et al., "V-Net" (arXiv 1606.04797), section 3. The sums are plain and 1 is added to both sides of
        the fraction, as in MaskFormer (arXiv 2107.06278).
    """
    check_floating(_OP, mask_logits=mask_logits)
    check_target_dtype(_OP, targets)
    check_same_device(_OP, mask_logits=mask_logits, targets=targets)
    if mask_logits.dim() < 2 or mask_logits.shape != targets.shape:
        raise ValueError(
            f"{_OP}: mask_logits and targets must be (N, ...) of one shape, got {shape(mask_logits)}, {shape(targets)}"
        )
    check_choice(_OP, "reduction", reduction, _REDUCTIONS)
    pixels = mask_logits[0].numel() if len(mask_logits) else 0  # N = 0 leaves flatten(1) without a size to infer
    logits = mask_logits.reshape(len(mask_logits), pixels)
    flat = targets.detach().reshape(len(mask_logits), pixels)
    if native(_OP, logits, flat):
        loss, _ = torch.ops.maskformer_ext.dice_loss(logits, flat)
    else:
        dtype = torch.promote_types(torch.promote_types(logits.dtype, flat.dtype), torch.float32)
        loss = dice_reference(logits.to(dtype), target_values(flat, dtype))
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()


def target_values(targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert targets to floating values: integers to 0 and 1, floating ones as they are."""
    return targets.to(dtype) if targets.is_floating_point() else (targets != 0).to(dtype)


def dice_reference(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the dice loss of each row of (N, P) logits and targets in PyTorch."""
    probability = torch.sigmoid(logits)
    both = (probability * targets).sum(1)
    return 1 - (2 * both + 1) / (probability.sum(1) + targets.sum(1) + 1)


def _fake(mask_logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    masks = mask_logits.shape[0]
    return mask_logits.new_empty(masks, dtype=torch.float32), mask_logits.new_empty((masks, 2), dtype=torch.float32)


def _fake_backward(grad: Tensor, mask_logits: Tensor, targets: Tensor, coefficients: Tensor) -> Tensor:
    return torch.empty_like(mask_logits, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    ctx.save_for_backward(*inputs, output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _grad_coefficients: Tensor | None) -> tuple:
    if grad is None:
        return None, None
    return torch.ops.maskformer_ext.dice_loss_backward(grad, *ctx.saved_tensors), None


register(_OP, fake=_fake, backward=_backward, setup_context=_setup_context)
register(f"{_OP}_backward", fake=_fake_backward, backward=once_differentiable(_OP))
