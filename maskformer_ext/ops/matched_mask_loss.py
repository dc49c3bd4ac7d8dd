"""Focal and dice loss of the mask logits of matched queries, straight from a batch's segments."""

import torch
from torch import Tensor

from maskformer_ext.ops.mask_loss import (
    check_mask_logits,
    check_sizes,
    chunked_reference,
    fake_losses,
    gradient_from_maps,
    save_gradient_maps,
)
from maskformer_ext.ops.support import value_checks
from maskformer_ext.ops.support.checks import (
    check_flag,
    check_focal,
    check_same_device,
)
from maskformer_ext.ops.support.library import native, register
from maskformer_ext.ops.support.matching import void_pixels
from maskformer_ext.ops.support.pairs import check_pair_indices, check_pair_values, real_pairs, target_pixels
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets

_OP = "matched_mask_loss"


def matched_mask_loss(
    mask_logits: Tensor,
    targets: SegmentTargets | MaskTargets,
    image_index: Tensor,
    segment_index: Tensor,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    ignore_void: bool = False,
) -> tuple[Tensor, Tensor]:
    """Compute focal and dice loss of each mask against the segment that it was matched with.

    The logits are resized bilinearly (align_corners=False) to the size of the targets. Nothing is stored at that size,
    and no mask is made of a segment map.

    Args:
        mask_logits: (N, h, w) floating.
        targets: the segments of B images, of any size (H, W).
        image_index: (N,) int64, the image of each mask; -1: the mask has no pair, its loss and gradient are exactly 0.
        segment_index: (N,) int64, the segment of that image; -1 likewise.
        alpha: weight of positive pixels in the focal loss, 1 - alpha that of negative ones; negative: no weights.
        gamma: exponent of the focal loss; 0 gives binary cross-entropy.
        ignore_void: leave void pixels out: the focal loss is the mean over the others (at least 1), and dice sums them.

    Returns:
        The focal and the dice loss of each mask, both (N,) float32 (float64 where an input is).

    Raises:
        TypeError: mask_logits is not floating, targets is no targets, an index is not int64, or an option is of another
            type.
        ValueError: shapes or devices do not fit, alpha or gamma is out of range, `ignore_void` lacks `targets.void`.
        ValueError: an image, a segment or an id in the segment map is out of range. On a GPU it counts as no pair, or
            as void, unless `MASKFORMER_EXT_CHECKS=1`.

    Source: MaskFormer (arXiv 2107.06278), section 3.3.
    """
    check_mask_logits(_OP, mask_logits)
    check_flag(_OP, ignore_void=ignore_void)
    pixels = target_pixels(_OP, targets)
    void = void_pixels(_OP, targets, ignore_void)
    check_pair_indices(_OP, image_index, segment_index, mask_logits.shape[0])
    check_same_device(
        _OP,
        mask_logits=mask_logits,
        targets=pixels,
        num_segments=targets.num_segments,
        image_index=image_index,
        segment_index=segment_index,
        void=void,
    )
    check_sizes(_OP, mask_logits, pixels)
    check_focal(_OP, alpha, gamma)
    if native(_OP, mask_logits, pixels):
        if value_checks.may_read(pixels.device):  # T is not among what the kernel gets
            value_checks.check_counts(_OP, targets)
        with_grad = mask_logits.requires_grad and torch.is_grad_enabled()
        focal, dice, _, _ = value_checks.call_checked(
            torch.ops.maskformer_ext.matched_mask_loss,
            mask_logits,
            pixels,
            targets.num_segments,
            void,
            image_index,
            segment_index,
            float(alpha),
            float(gamma),
            ignore_void,
            with_grad,
            device=mask_logits.device,
            check=lambda: check_pair_values(_OP, targets, image_index, segment_index),
        )
        return focal, dice
    return _reference(mask_logits, targets, pixels, void, image_index, segment_index, alpha, gamma, ignore_void)


def _reference(
    mask_logits: Tensor,
    targets: SegmentTargets | MaskTargets,
    pixels: Tensor,
    void: Tensor | None,
    image_index: Tensor,
    segment_index: Tensor,
    alpha: float,
    gamma: float,
    ignore_void: bool,
) -> tuple[Tensor, Tensor]:
    if value_checks.may_read(pixels.device):
        check_pair_values(_OP, targets, image_index, segment_index)
    if mask_logits.shape[0] == 0 or pixels.shape[0] == 0 or (pixels.dim() == 4 and pixels.shape[1] == 0):
        zero = mask_logits.masked_fill(torch.ones_like(mask_logits, dtype=torch.bool), 0.0).sum((1, 2))
        zero = zero.to(torch.promote_types(zero.dtype, torch.float32))
        return zero, zero.clone()
    paired, image, segment, counts = real_pairs(targets, image_index, segment_index)

    def rows_of(rows: slice) -> tuple[Tensor, Tensor | None]:
        images, segments = image[rows], segment[rows]
        if pixels.dim() == 4:
            return pixels[images, segments], ~void[images] if void is not None else None
        owner = pixels[images]
        inside = owner == segments.view(-1, 1, 1)
        valid = (owner >= 0) & (owner < counts[rows].view(-1, 1, 1)) if ignore_void else None
        return inside, valid

    # Where there is no pair, neither the loss nor (by way of NaN logits) the gradient may be anything but 0.
    logits = mask_logits.masked_fill(~paired.view(-1, 1, 1), 0.0)
    focal, dice = chunked_reference(logits, rows_of, pixels, alpha, gamma)
    return focal.masked_fill(~paired, 0.0), dice.masked_fill(~paired, 0.0)


def _fake(
    mask_logits: Tensor,
    targets: Tensor,
    num_segments: Tensor,
    void: Tensor | None,
    image_index: Tensor,
    segment_index: Tensor,
    alpha: float,
    gamma: float,
    ignore_void: bool,
    with_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return fake_losses(mask_logits, with_grad)


register(_OP, fake=_fake, backward=gradient_from_maps, setup_context=save_gradient_maps)
