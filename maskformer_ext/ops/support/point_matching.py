"""What the matching costs over points share: options, checks, the targets at the points, and the reference's costs."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from maskformer_ext.ops.support import checks, value_checks
from maskformer_ext.ops.support.library import without_autocast
from maskformer_ext.ops.support.matching import check_values
from maskformer_ext.ops.support.points import SAMPLINGS, check_sampling, taps
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets


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
        check_sampling(op, self.sampling)


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
    if 0 in targets.size and (points.shape[-2] or 0 not in size):
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


def call_kernel(
    op: str,
    predictions: tuple[Tensor, ...],
    targets: SegmentTargets | MaskTargets,
    points: Tensor,
    options: PointCostOptions,
    *flags: bool,
) -> Tensor:
    """Call a native point matching cost.

    Args:
        op: its name.
        predictions: tensors, the class logits first.
        targets: the segments.
        points: (..., B, P, 2).
        options: of the cost.
        flags: what only this op takes.

    Raises:
        ValueError: a label, a segment id or a number of segments is out of range, where values may be read.
    """
    if isinstance(targets, SegmentTargets):
        pixels = targets.segment_map
    else:
        pixels = targets.masks if targets.masks.dtype in (torch.bool, torch.uint8) else targets.masks != 0
    class_weight, mask_weight, dice_weight, sampling = options
    return value_checks.call_checked(
        getattr(torch.ops.maskformer_ext, op),
        *predictions,
        pixels,
        targets.labels,
        targets.num_segments,
        points.float(),
        float(class_weight),
        float(mask_weight),
        float(dice_weight),
        SAMPLINGS.index(sampling),
        *flags,
        device=pixels.device,
        check=lambda: check_values(op, predictions[0].shape[-1] - 1, targets),
    )


def fake_cost(class_logits: Tensor, pixels: Tensor, labels: Tensor, *rest: Any) -> Tensor:
    """Return an empty cost for the arguments of a native cost without the mask predictions."""
    return class_logits.new_empty((*class_logits.shape[:-1], labels.shape[1]), dtype=torch.float32)


def sample_planes(planes: Tensor, points: Tensor) -> Tensor:
    """Sample planes (..., B, N, h, w) bilinearly at points (..., B, P, 2) that they share: (..., B, N, P)."""
    *leading, count, height, width = planes.shape
    if not points.shape[-2] or not planes.numel():
        return planes.new_zeros(*leading, count, points.shape[-2])
    index, weight = taps(points, height, width)  # (..., B, P, 4)
    pixels = planes.flatten(-2)
    samples = planes.new_zeros(())
    for place, share in zip(index.unbind(-1), weight.unbind(-1), strict=True):
        values = pixels.gather(-1, place.unsqueeze(-2).expand(*leading, count, -1))
        # A pixel without weight adds nothing, even if it is infinite.
        samples = samples + values.where(share.unsqueeze(-2) != 0, 0.0) * share.unsqueeze(-2)
    return samples


def sample_targets(targets: SegmentTargets | MaskTargets, points: Tensor, sampling: str) -> Tensor:
    """Return which share of each point (..., B, P, 2) lies in each segment, (..., B, T, P) of the points' dtype."""
    capacity = targets.labels.shape[1]
    leading, count = points.shape[:-2], points.shape[-2]
    if not capacity or not points.numel():
        return points.new_zeros(*leading, capacity, count)
    index, weight = taps(points, *targets.size, sampling)  # (..., B, P, taps)
    place = index.reshape(-1, len(targets.labels), count * index.shape[-1])  # (L, B, P * taps)
    if isinstance(targets, SegmentTargets):
        pixels = targets.segment_map.flatten(1).long().expand(len(place), -1, -1)
        owner = pixels.gather(-1, place).view(index.shape)
        void = (owner < 0) | (owner >= targets.num_segments.view(-1, 1, 1))
        share = points.new_zeros(*leading, count, capacity + 1)
        share.scatter_add_(-1, owner.where(~void, capacity), weight)
        return share[..., :capacity].mT
    masks = (targets.masks != 0).flatten(2)  # (B, T, H * W)
    images = torch.arange(len(masks), device=points.device).view(-1, 1)
    inside = masks.mT[images, place].view(*index.shape, capacity)
    return (inside * weight.unsqueeze(-1)).sum(-2).mT


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
