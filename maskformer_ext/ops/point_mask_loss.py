"""Cross-entropy and dice loss of the mask logits of matched queries at points, straight from a batch's segments."""

from typing import Any

import torch
from torch import Tensor

from maskformer_ext.ops.dice_loss import dice_reference, target_values
from maskformer_ext.ops.mask_loss import check_mask_logits, check_sizes
from maskformer_ext.ops.sigmoid_focal_loss import focal_reference
from maskformer_ext.ops.support import points as at_points
from maskformer_ext.ops.support import value_checks
from maskformer_ext.ops.support.checks import check_same_device
from maskformer_ext.ops.support.library import native, once_differentiable, register
from maskformer_ext.ops.support.pairs import check_pair_indices, check_pair_values, real_pairs, target_pixels
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets

_OP = "point_mask_loss"


def point_mask_loss(
    mask_logits: Tensor,
    targets: SegmentTargets | MaskTargets,
    image_index: Tensor,
    segment_index: Tensor,
    points: Tensor,
    *,
    sampling: str = "bilinear",
) -> tuple[Tensor, Tensor]:
    """Compute binary cross-entropy and dice loss of each mask at points, against the segment it was matched with.

    Logits are sampled bilinearly (align_corners=False) and are 0 outside the mask, as by ``grid_sample``. No mask is
    made of a segment map, and void pixels count as background.

    Args:
        mask_logits: (N, h, w) floating.
        targets: the segments of B images, of any size (H, W).
        image_index: (N,) int64, the image of each mask; -1: the mask has no pair, its loss and gradient are exactly 0.
        segment_index: (N,) int64, the segment of that image; -1 likewise.
        points: (N, P, 2) floating, x and y from 0 at the left and top edge to 1 at the right and bottom edge. One that
            is infinite or NaN lies outside.
        sampling: how targets are sampled, "bilinear" or "nearest". The logits are sampled bilinearly always.

    Returns:
        cross_entropy: (N,) float32, the mean over each mask's points; float64 where an input is.
        dice: (N,) likewise, 1 - (2 I + 1) / (S + A + 1) with sums over the points.

        Both are 0 without points. The gradient goes to mask_logits only.

    Raises:
        TypeError: mask_logits or points is not floating, targets is no targets, or an index is not int64.
        ValueError: shapes or devices do not fit, or sampling is unknown.
        ValueError: an image, a segment or an id in the segment map is out of range. On a GPU it counts as no pair, or
            as void, unless `MASKFORMER_EXT_CHECKS=1`.

    Source: Mask2Former (arXiv 2112.01527), section 3.3.
    """
    check_mask_logits(_OP, mask_logits)
    at_points.check_points(_OP, "points", points, mask_logits.shape[0])
    at_points.check_sampling(_OP, sampling)
    pixels = target_pixels(_OP, targets)
    check_pair_indices(_OP, image_index, segment_index, mask_logits.shape[0])
    check_same_device(
        _OP,
        mask_logits=mask_logits,
        targets=pixels,
        num_segments=targets.num_segments,
        image_index=image_index,
        segment_index=segment_index,
        points=points,
    )
    check_sizes(_OP, mask_logits, pixels)
    points = points.detach()
    if native(_OP, mask_logits, pixels, points):
        if value_checks.may_read(pixels.device):  # T is not among what the kernel gets
            value_checks.check_counts(_OP, targets)
        cross_entropy, dice, _ = value_checks.call_checked(
            torch.ops.maskformer_ext.point_mask_loss,
            mask_logits,
            pixels,
            targets.num_segments,
            image_index,
            segment_index,
            points.float(),
            sampling == "nearest",
            device=mask_logits.device,
            check=lambda: check_pair_values(_OP, targets, image_index, segment_index),
        )
        return cross_entropy, dice
    return _reference(mask_logits, targets, pixels, image_index, segment_index, points, sampling)


def _reference(
    mask_logits: Tensor,
    targets: SegmentTargets | MaskTargets,
    pixels: Tensor,
    image_index: Tensor,
    segment_index: Tensor,
    points: Tensor,
    sampling: str,
) -> tuple[Tensor, Tensor]:
    if value_checks.may_read(pixels.device):
        check_pair_values(_OP, targets, image_index, segment_index)
    dtype = torch.promote_types(torch.promote_types(mask_logits.dtype, points.dtype), torch.float32)
    if pixels.is_floating_point():
        dtype = torch.promote_types(dtype, pixels.dtype)
    if 0 in (*points.shape[:2], *pixels.shape):
        nothing = torch.ones_like(mask_logits, dtype=torch.bool)
        zero = mask_logits.masked_fill(nothing, 0.0).sum((1, 2)).to(dtype)
        return zero, zero.clone()
    paired, image, segment, _ = real_pairs(targets, image_index, segment_index)
    points = points.to(dtype)
    if pixels.dim() == 3:
        values = at_points.sample_segment(pixels, image, segment, points, sampling)
    else:
        values = at_points.sample(target_values(pixels[image, segment], dtype), points, sampling)
    # Where there is no pair, neither the loss nor (by way of NaN logits) the gradient may be anything but 0.
    logits = mask_logits.to(dtype).masked_fill(~paired.view(-1, 1, 1), 0.0)
    sampled = at_points.sample(logits, points)
    cross_entropy = focal_reference(sampled, values, alpha=-1.0, gamma=0.0).mean(1)
    dice = dice_reference(sampled, values)
    return cross_entropy.masked_fill(~paired, 0.0), dice.masked_fill(~paired, 0.0)


def _fake(mask_logits: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    masks = mask_logits.shape[0]
    loss = mask_logits.new_empty(masks, dtype=torch.float32)
    return loss, torch.empty_like(loss), mask_logits.new_empty((masks, 3), dtype=torch.float32)


def _setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    *tensors, ctx.nearest = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.set_materialize_grads(False)


def _backward(
    ctx: Any, grad_cross_entropy: Tensor | None, grad_dice: Tensor | None, _grad_coefficients: Tensor | None
) -> tuple:
    others = (None,) * 6
    if grad_cross_entropy is None and grad_dice is None:
        return None, *others
    *tensors, coefficients = ctx.saved_tensors
    backward = torch.ops.maskformer_ext.point_mask_loss_backward
    return backward(*tensors, ctx.nearest, coefficients, grad_cross_entropy, grad_dice), *others


def _fake_backward(mask_logits: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(mask_logits, memory_format=torch.contiguous_format)


register(_OP, fake=_fake, backward=_backward, setup_context=_setup_context)
register(f"{_OP}_backward", fake=_fake_backward, backward=once_differentiable(_OP))
