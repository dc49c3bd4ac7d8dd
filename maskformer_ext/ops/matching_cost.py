"""The cost of assigning each query to each segment: class, focal and dice terms."""

import torch
import torch.nn.functional as F
from torch import Tensor

from maskformer_ext.ops.support import checks, value_checks
from maskformer_ext.ops.support.library import native, register, without_autocast
from maskformer_ext.ops.support.matching import CostOptions, call_kernel, check_targets, check_values, fake_cost
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets

_OP = "matching_cost"


def matching_cost(
    class_logits: Tensor,
    mask_logits: Tensor,
    targets: SegmentTargets | MaskTargets,
    *,
    class_weight: float = 1.0,
    focal_weight: float = 20.0,
    dice_weight: float = 1.0,
    alpha: float = 0.25,
    gamma: float = 2.0,
    ignore_void: bool = False,
) -> Tensor:
    """Compute the matching cost of every query with every segment of its image.

    The cost is ``class_weight * -softmax(class_logits)[label] + focal_weight * focal + dice_weight * dice``. The
    segments are reduced to (h, w) by nearest neighbour, as ``interpolate`` does; focal is the mean over the pixels and
    dice is ``1 - (2 I + 1) / (S + A + 1)``. No gradient.

    Args:
        class_logits: (..., B, Q, K + 1) floating, the last column "no object"; leading dimensions are decoder layers.
        mask_logits: (..., B, Q, h, w) floating.
        targets: the segments of the B images, of any size (H, W).
        class_weight: factor of the class cost.
        focal_weight: factor of the focal cost.
        dice_weight: factor of the dice cost.
        alpha: weight of positive pixels in the focal cost, 1 - alpha that of negative ones; negative: no weights.
        gamma: exponent of the focal cost.
        ignore_void: leave void pixels out of focal and dice (the mean is then over the others, at least 1).

    Returns:
        (..., B, Q, T) float32, or float64 where an input is. Columns beyond ``num_segments`` are 0. Rows are +inf of
        queries with a NaN or +inf class logit or a non-finite mask logit.

    Raises:
        TypeError: an input is not floating, or an option is of another type.
        ValueError: shapes or devices do not fit, or an option is out of range.
        ValueError: a label or segment id is out of range (on a GPU such segments are void unless
            `MASKFORMER_EXT_CHECKS=1`).

    Source: MaskFormer (arXiv 2107.06278), section 3.3 and appendix A; DETR (arXiv 2005.12872), equation 9.
    """
    _check_predictions(class_logits, mask_logits)
    batch, size = mask_logits.shape[-4], mask_logits.shape[-2:]
    options = CostOptions(class_weight, focal_weight, dice_weight, alpha, gamma, ignore_void)
    check_targets(_OP, class_logits, targets, batch=batch, size=size, options=options)
    class_logits, mask_logits = class_logits.detach(), mask_logits.detach()
    if native(_OP, class_logits, mask_logits):
        return call_kernel(_OP, (class_logits, mask_logits), targets, options)
    return matching_cost_reference(class_logits, mask_logits, targets, options)


register(_OP, fake=lambda class_logits, mask_logits, *rest: fake_cost(class_logits, *rest))


def nearest_index(in_size: int, out_size: int, device: torch.device | None = None) -> Tensor:
    """Return the source index of each output position as ``interpolate(mode="nearest")`` does, (out_size,) int64."""
    index = torch.arange(out_size, device=device)
    scale = torch.full((), in_size, dtype=torch.float32, device=device) / out_size  # torch.tensor would wait for a GPU
    return (index * scale).floor().long().clamp(max=in_size - 1)


def matching_cost_reference(
    class_logits: Tensor,
    mask_logits: Tensor,
    targets: SegmentTargets | MaskTargets,
    options: CostOptions,
) -> Tensor:
    """Compute ``matching_cost`` in plain PyTorch; arguments are those of ``matching_cost``, checked."""
    class_weight, focal_weight, dice_weight, alpha, gamma, ignore_void = options
    if value_checks.may_read(class_logits.device):
        check_values(_OP, class_logits.shape[-1] - 1, targets)
    double = torch.float64 in (class_logits.dtype, mask_logits.dtype)
    dtype = torch.float64 if double else torch.float32
    height, width = mask_logits.shape[-2:]
    with torch.no_grad(), without_autocast(class_logits):
        logits = mask_logits.to(dtype).flatten(-2)
        finite = class_logits.amax(-1).isfinite() & logits.isfinite().all(-1)
        logits = logits.where(finite.unsqueeze(-1), logits.new_zeros(()))
        inside, outside, counted = (mask.to(dtype) for mask in _sample_targets(targets, height, width, ignore_void))

        probability = class_logits.to(dtype).softmax(-1)
        label = targets.labels.clamp(0, class_logits.shape[-1] - 2).unsqueeze(-2)
        class_cost = -probability.gather(-1, label.expand(*probability.shape[:-1], -1))

        foreground = logits.sigmoid()
        positive = (-logits).sigmoid().pow(gamma) * F.softplus(-logits)
        negative = foreground.pow(gamma) * F.softplus(logits)
        if alpha >= 0:
            positive, negative = alpha * positive, (1 - alpha) * negative
        # Inside and outside are summed apart: a total minus the inside would cancel for good matches.
        focal = positive @ inside.mT + negative @ outside.mT
        focal_cost = focal / counted.sum(-1).clamp(min=1).view(-1, 1, 1)

        area = (foreground * counted.unsqueeze(-2)).sum(-1, keepdim=True) + inside.sum(-1).unsqueeze(-2)
        dice_cost = 1 - (2 * (foreground @ inside.mT) + 1) / (area + 1)

        cost = class_weight * class_cost + focal_weight * focal_cost + dice_weight * dice_cost
        cost = cost.where(finite.unsqueeze(-1), cost.new_full((), torch.inf))
        real = torch.arange(targets.labels.shape[1], device=cost.device) < targets.num_segments.unsqueeze(-1)
        return cost.where(real.unsqueeze(-2), cost.new_zeros(()))


def _sample_targets(
    targets: SegmentTargets | MaskTargets, height: int, width: int, ignore_void: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Reduce targets to (h, w): bool (B, T, hw) inside and outside of each segment, (B, hw) the pixels that count."""
    rows = nearest_index(targets.size[0], height, targets.device).unsqueeze(-1)
    columns = nearest_index(targets.size[1], width, targets.device)
    if isinstance(targets, SegmentTargets):
        owner = targets.segment_map[..., rows, columns].flatten(-2)
        index = torch.arange(targets.labels.shape[1], device=owner.device).unsqueeze(-1)
        inside = owner.unsqueeze(-2) == index
        void: Tensor | None = (owner < 0) | (owner >= targets.num_segments.unsqueeze(-1))
    else:
        inside = targets.masks[..., rows, columns].flatten(-2) != 0
        void = None if targets.void is None else targets.void[..., rows, columns].flatten(-2)
    if not ignore_void or void is None:
        return inside, ~inside, inside.new_ones(inside.shape[0], inside.shape[-1])
    counted = ~void
    return inside & counted.unsqueeze(-2), ~inside & counted.unsqueeze(-2), counted


def _check_predictions(class_logits: Tensor, mask_logits: Tensor) -> None:
    checks.check_floating(_OP, class_logits=class_logits, mask_logits=mask_logits)
    checks.check_same_device(_OP, class_logits=class_logits, mask_logits=mask_logits)
    if mask_logits.dim() < 4:
        raise ValueError(f"{_OP}: mask_logits must be (..., B, Q, h, w), got {checks.shape(mask_logits)}")
    if class_logits.shape[:-1] != mask_logits.shape[:-2] or class_logits.shape[-1] < 2:
        raise ValueError(
            f"{_OP}: class_logits must be (..., B, Q, K + 1) with (..., B, Q) = {tuple(mask_logits.shape[:-2])}, "
            f"as mask_logits, and K >= 1, got {checks.shape(class_logits)}"
        )
