"""Focal and dice loss of mask logits against masks of another size, resized inside, in one pass."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from maskformer_ext.ops.dice_loss import dice_reference, target_values
from maskformer_ext.ops.sigmoid_focal_loss import focal_reference
from maskformer_ext.ops.support.checks import check_floating, check_focal, check_same_device, check_target_dtype, shape
from maskformer_ext.ops.support.library import native, once_differentiable, register

_OP = "mask_loss"
# Target pixels that the reference holds at a time.
_CHUNK_PIXELS = 1 << 21


def mask_loss(
    mask_logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Compute focal and dice loss of each mask, the logits resized bilinearly to the targets (align_corners=False).

    Nothing is stored at the size of the targets; the gradient goes to mask_logits.

    Args:
        mask_logits: (N, h, w) floating.
        targets: (N, H, W) of any size; bool, uint8 (nonzero is inside) or floating between 0 and 1.
        alpha: weight of positive pixels in the focal loss, 1 - alpha that of negative ones; negative: no weights.
        gamma: exponent of the focal loss; 0 gives binary cross-entropy.

    Returns:
        focal: (N,) float32, the mean over the H x W pixels of each mask; float64 where an input is.
        dice: (N,) likewise.

    Raises:
        TypeError: mask_logits is not floating, targets is of another integer dtype, or alpha or gamma is no number.
        ValueError: shapes or devices do not fit, or alpha or gamma is out of range.

    Source: MaskFormer (arXiv 2107.06278), section 3.3. Focal loss: arXiv 1708.02002, equation 5. Dice loss: arXiv
        1606.04797, section 3, with 1 added to both sides of the fraction.
    """
    check_mask_logits(_OP, mask_logits)
    check_target_dtype(_OP, targets)
    check_same_device(_OP, mask_logits=mask_logits, targets=targets)
    if targets.dim() != 3 or targets.shape[0] != mask_logits.shape[0]:
        raise ValueError(f"{_OP}: targets must be (N, H, W) with N = {mask_logits.shape[0]}, got {shape(targets)}")
    check_sizes(_OP, mask_logits, targets)
    check_focal(_OP, alpha, gamma)
    targets = targets.detach()
    if native(_OP, mask_logits, targets):
        with_grad = mask_logits.requires_grad and torch.is_grad_enabled()
        focal, dice, _, _ = torch.ops.maskformer_ext.mask_loss(
            mask_logits, targets, float(alpha), float(gamma), with_grad
        )
        return focal, dice
    return chunked_reference(mask_logits, lambda rows: (targets[rows], None), targets, alpha, gamma)


def check_mask_logits(op: str, mask_logits: Tensor) -> None:
    """Raise unless mask_logits is a floating (N, h, w) tensor."""
    check_floating(op, mask_logits=mask_logits)
    if mask_logits.dim() != 3:
        raise ValueError(f"{op}: mask_logits must be (N, h, w), got {shape(mask_logits)}")


def check_sizes(op: str, mask_logits: Tensor, targets: Tensor) -> None:
    """Raise ValueError where there are masks, but no pixels to resize from or to."""
    if mask_logits.shape[0] and 0 in (*mask_logits.shape[1:], *targets.shape[-2:]):
        raise ValueError(
            f"{op}: mask_logits and targets must have at least one pixel, got {shape(mask_logits)}, {shape(targets)}"
        )


def chunked_reference(
    mask_logits: Tensor,
    target_rows: Callable[[slice], tuple[Tensor, Tensor | None]],
    targets: Tensor,
    alpha: float,
    gamma: float,
) -> tuple[Tensor, Tensor]:
    """Compute the losses in PyTorch, some masks at a time; backward recomputes each chunk, so memory stays bounded.

    Args:
        mask_logits: (N, h, w).
        target_rows: returns, for a slice of the masks, their targets (n, H, W) and which pixels count. The second is
            (n, H, W) bool, or None for all.
        targets: where the size (H, W) and the dtype are read.
        alpha: as in `mask_loss`.
        gamma: as in `mask_loss`.

    Returns:
        Focal and dice, (N,).
    """
    masks, (height, width) = mask_logits.shape[0], targets.shape[-2:]
    dtype = torch.promote_types(mask_logits.dtype, torch.float32)
    if targets.is_floating_point():
        dtype = torch.promote_types(dtype, targets.dtype)

    def losses(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        chunk, valid = target_rows(rows)
        resized = logits.to(dtype).unsqueeze(0)
        if resized.shape[-2:] != (height, width):
            resized = F.interpolate(resized, size=(height, width), mode="bilinear", align_corners=False)
        resized = resized.reshape(-1, height * width)
        values = target_values(chunk, dtype).flatten(1)
        if valid is None:
            focal = focal_reference(resized, values, alpha, gamma).mean(1)
            return focal, dice_reference(resized, values)
        # A very negative logit with target 0 adds nothing to any of the sums, nor to the gradient.
        valid = valid.flatten(1)
        resized, values = resized.masked_fill(~valid, -1e4), values * valid
        focal = focal_reference(resized, values, alpha, gamma).sum(1) / valid.sum(1).clamp_min(1)
        return focal, dice_reference(resized, values)

    step = max(1, _CHUNK_PIXELS // max(1, height * width))
    parts = []
    for begin in range(0, masks, step):
        rows = slice(begin, min(begin + step, masks))
        if mask_logits.requires_grad and torch.is_grad_enabled() and masks > step:
            parts.append(checkpoint(losses, mask_logits[rows], rows, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(losses(mask_logits[rows], rows))
    if not parts:
        empty = mask_logits.to(dtype).sum((1, 2))  # (0,), connected to the logits
        return empty, empty.clone()
    focal, dice = zip(*parts, strict=True)
    return torch.cat(focal), torch.cat(dice)


def fake_losses(mask_logits: Tensor, with_grad: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return empty outputs of the native mask losses: focal, dice, gradient maps, coefficients of the maps."""
    masks, height, width = mask_logits.shape
    new = mask_logits.new_empty
    maps = (masks, 3, height, width) if with_grad else (0, 3, height, width)
    return (
        new(masks, dtype=torch.float32),
        new(masks, dtype=torch.float32),
        new(maps, dtype=torch.float32),
        new((masks, 3), dtype=torch.float32),
    )


def save_gradient_maps(ctx: Any, inputs: tuple, output: tuple) -> None:
    """Keep what backward needs: per mask three maps at the size of the logits, and three numbers."""
    ctx.dtype, ctx.with_grad, ctx.num_inputs = inputs[0].dtype, inputs[-1], len(inputs)
    ctx.save_for_backward(output[2], output[3])
    ctx.set_materialize_grads(False)


def gradient_from_maps(ctx: Any, grad_focal: Tensor | None, grad_dice: Tensor | None, *_unused: Tensor | None) -> tuple:
    """Combine the gradient maps, the same for all native mask losses."""
    others = (None,) * (ctx.num_inputs - 1)
    if grad_focal is None and grad_dice is None:
        return None, *others
    if not ctx.with_grad:
        raise RuntimeError(f"{_OP}: the op was called with with_grad=False, so it has no gradient")
    maps, coefficients = ctx.saved_tensors
    backward = torch.ops.maskformer_ext.mask_loss_backward
    return backward(maps, coefficients, grad_focal, grad_dice, ctx.dtype), *others


def _fake(
    mask_logits: Tensor, targets: Tensor, alpha: float, gamma: float, with_grad: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return fake_losses(mask_logits, with_grad)


def _fake_backward(
    maps: Tensor, coefficients: Tensor, grad_focal: Tensor | None, grad_dice: Tensor | None, dtype: torch.dtype
) -> Tensor:
    return maps.new_empty((maps.shape[0], *maps.shape[2:]), dtype=dtype)


register(_OP, fake=_fake, backward=gradient_from_maps, setup_context=save_gradient_maps)
register(f"{_OP}_backward", fake=_fake_backward, backward=once_differentiable(_OP))
