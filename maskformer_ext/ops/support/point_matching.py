"""What the matching costs over points share: options, checks, the targets at the points, and the reference's costs."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from maskformer_ext.ops.support import checks
from maskformer_ext.ops.support.library import without_autocast
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets

SAMPLINGS = ("bilinear", "nearest")  # the kernel's numbers


class PointCostOptions(NamedTuple):
    """What the costs are told beside predictions, targets and points; ``point_matching_cost`` says what each means."""

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    sampling: str = "bilinear"

    def check(self, op: str) -> None:
        """Raise TypeError or ValueError unless every option is in its range."""
        checks.check_finite(
            op, class_weight=self.class_weight, mask_weight=self.mask_weight, dice_weight=self.dice_weight
        )
        checks.check_choice(op, "sampling", self.sampling, SAMPLINGS)


def check_inputs(
    op: str,
    class_logits: Tensor,
    targets: SegmentTargets | MaskTargets,
    points: Tensor,
    options: PointCostOptions,
    leading: tuple[int, ...],
    size: tuple[int, int],
) -> None:
    """Raise TypeError or ValueError unless all fits predictions of ``leading`` (..., B) and of ``size`` (h, w)."""
    options.check(op)
    if not isinstance(targets, SegmentTargets | MaskTargets):
        raise TypeError(f"{op}: targets must be SegmentTargets or MaskTargets, got {type(targets).__name__}")
    checks.check_floating(op, points=points)
    if points.dim() != len(leading) + 2 or tuple(points.shape[:-2]) != leading or points.shape[-1] != 2:
        raise ValueError(f"{op}: points must be (..., B, P, 2) with (..., B) = {leading}, got {checks.shape(points)}")
    if leading[-1] != targets.labels.shape[0]:
        raise ValueError(f"{op}: targets must hold B = {leading[-1]} images, got {targets.labels.shape[0]}")
    if points.shape[-2] and 0 in size:
        raise ValueError(f"{op}: mask predictions must have at least one pixel, got size {tuple(size)}")
    if points.shape[-2] and 0 in targets.size:
        raise ValueError(f"{op}: targets must have at least one pixel, got size {tuple(targets.size)}")
    pixels = targets.segment_map if isinstance(targets, SegmentTargets) else targets.masks
    checks.check_same_device(
        op,
        class_logits=class_logits,
        points=points,
        targets=pixels,
        labels=targets.labels,
        num_segments=targets.num_segments,
    )
    if isinstance(targets, MaskTargets):
        checks.check_target_dtype(op, pixels)


def sample_planes(planes: Tensor, points: Tensor) -> Tensor:
    """Sample (..., B, N, h, w) bilinearly at (..., B, P, 2), as ``grid_sample`` does: (..., B, N, P)."""
    *leading, count, height, width = planes.shape
    if not points.shape[-2] or not planes.numel():
        return planes.new_zeros(*leading, count, points.shape[-2])
    flat = planes.reshape(-1, count, height, width)
    grid = 2 * points.reshape(-1, 1, points.shape[-2], 2) - 1
    return F.grid_sample(flat, grid, align_corners=False).reshape(*leading, count, -1)


def sample_targets(targets: SegmentTargets | MaskTargets, points: Tensor, sampling: str) -> Tensor:
    """Return which share of each point lies in each segment, (..., B, T, P) of the points' dtype."""
    capacity = targets.labels.shape[1]
    index, weight = _taps(points, targets.size, sampling)  # (..., B, P, taps)
    leading, (count, taps) = index.shape[:-2], index.shape[-2:]
    if not count or not capacity or not weight.numel():
        return points.new_zeros(*leading, capacity, count)
    layers = index.numel() // (len(targets.labels) * count * taps)
    place = index.reshape(layers, -1, count * taps)  # (L, B, P * taps)
    if isinstance(targets, SegmentTargets):
        pixels = targets.segment_map.flatten(1).long().expand(layers, -1, -1)
        owner = pixels.gather(-1, place).view(*leading, count, taps)
        void = (owner < 0) | (owner >= targets.num_segments.view(-1, 1, 1))
        share = points.new_zeros(*leading, count, capacity + 1)
        share.scatter_add_(-1, owner.where(~void, capacity), weight)
        return share[..., :capacity].mT
    masks = (targets.masks != 0).flatten(2)  # (B, T, H * W)
    images = torch.arange(len(masks), device=points.device).view(-1, 1)
    inside = masks.mT[images, place].view(*leading, count, taps, capacity)
    return (inside * weight.unsqueeze(-1)).sum(-2).mT


def _taps(points: Tensor, size: tuple[int, int], sampling: str) -> tuple[Tensor, Tensor]:
    """Return pixels (..., P, taps) int64 and their weights, 0 outside the image, of ``grid_sample``."""
    height, width = size
    extent = torch.stack([points.new_full((), width), points.new_full((), height)])
    position = ((2 * points - 1) + 1) * (extent / 2) - 0.5
    if sampling == "nearest":
        corner, weights = position.round(), [points.new_ones(points.shape[:-1])]
        offsets = [(0, 0)]
    else:
        corner = position.floor()
        after = position - corner
        x, y = after.unbind(-1)
        weights = [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y]
        offsets = [(0, 0), (1, 0), (0, 1), (1, 1)]
    index, kept = [], []
    for (right, down), weight in zip(offsets, weights, strict=True):
        column, row = corner[..., 0] + right, corner[..., 1] + down
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)  # false for NaN
        index.append(row.where(inside, 0).long() * width + column.where(inside, 0).long())
        kept.append(weight.where(inside, 0))
    return torch.stack(index, -1), torch.stack(kept, -1)


def cost_reference(
    class_logits: Tensor,
    logits: Tensor,
    targets: SegmentTargets | MaskTargets,
    points: Tensor,
    options: PointCostOptions,
) -> Tensor:
    """Compute the costs from mask logits (..., B, Q, P) at points, of the result's dtype; autocast is off."""
    dtype = logits.dtype
    with without_autocast(class_logits):
        finite = class_logits.amax(-1).isfinite() & logits.isfinite().all(-1)
        logits = logits.where(finite.unsqueeze(-1), 0)
        inside = sample_targets(targets, points.to(dtype), options.sampling)

        probability = class_logits.to(dtype).softmax(-1)
        label = targets.labels.clamp(0, class_logits.shape[-1] - 2).unsqueeze(-2)
        class_cost = -probability.gather(-1, label.expand(*probability.shape[:-1], -1))

        entropy = F.softplus(-logits) @ inside.mT + F.softplus(logits) @ (1 - inside).mT
        mask_cost = entropy / max(points.shape[-2], 1)
        foreground = logits.sigmoid()
        area = foreground.sum(-1, keepdim=True) + inside.sum(-1).unsqueeze(-2)
        dice_cost = 1 - (2 * (foreground @ inside.mT) + 1) / (area + 1)

        class_weight, mask_weight, dice_weight, _ = options
        cost = class_weight * class_cost + mask_weight * mask_cost + dice_weight * dice_cost
        cost = cost.where(finite.unsqueeze(-1), torch.inf)
        real = torch.arange(targets.labels.shape[1], device=cost.device) < targets.num_segments.unsqueeze(-1)
        return cost.where(real.unsqueeze(-2), 0)
