"""Boxes: those of segments, what predicted ones cost, and their losses; for matching by boxes instead of masks."""

from __future__ import annotations

import torch
from torch import Tensor

from maskformer_ext.ops.targets import MaskTargets, SegmentTargets

_EPSILON = 1e-7  # of an area, in shares of the image: below a pixel of any image


def segment_boxes(targets: SegmentTargets | MaskTargets) -> Tensor:
    """Return the smallest box around each segment.

    Args:
        targets: the segments of B images.

    Returns:
        (B, T, 4) float32: centre x, centre y, width and height in shares of the image. Zeros for padding, and where a
        segment has no pixel.
    """
    if isinstance(targets, MaskTargets):
        masks = targets.masks != 0
        return _boxes(masks.any(-2), masks.any(-1))
    batch, capacity = targets.labels.shape
    height, width = targets.size
    owner = targets.segment_map.long()
    owner = torch.where((owner >= 0) & (owner < capacity), owner, capacity)  # one slot more takes what is void
    columns = owner.new_zeros((batch, (capacity + 1) * width), dtype=torch.bool)
    rows = owner.new_zeros((batch, (capacity + 1) * height), dtype=torch.bool)
    x, y = torch.arange(width, device=owner.device), torch.arange(height, device=owner.device)
    columns = columns.scatter(1, (owner * width + x).flatten(1), True)
    rows = rows.scatter(1, (owner * height + y.unsqueeze(1)).flatten(1), True)
    return _boxes(columns.unflatten(1, (-1, width))[:, :capacity], rows.unflatten(1, (-1, height))[:, :capacity])


def box_distance(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Compare boxes (centre x, centre y, width, height), broadcast over all but the last dimension.

    Args:
        boxes: (..., 4).
        others: (..., 4).

    Returns:
        The sum of absolute differences, and 1 - generalised IoU (0 for equal boxes, at most 2); both (...) float32.

    Source: "End-to-End Object Detection with Transformers" (arXiv 2005.12872), section 3.1.
    """
    boxes, others = boxes.float(), others.float()
    difference = (boxes - others).abs().sum(-1)
    low, high = _corners(boxes)
    other_low, other_high = _corners(others)
    inside = (torch.minimum(high, other_high) - torch.maximum(low, other_low)).clamp(min=0).prod(-1)
    union = (high - low).prod(-1) + (other_high - other_low).prod(-1) - inside
    hull = (torch.maximum(high, other_high) - torch.minimum(low, other_low)).prod(-1)
    iou = inside / union.clamp(min=_EPSILON)
    return difference, 1 - iou + (hull - union) / hull.clamp(min=_EPSILON)


def _corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    centre, extent = boxes[..., :2], boxes[..., 2:]
    return centre - extent / 2, centre + extent / 2


def _boxes(columns: Tensor, rows: Tensor) -> Tensor:
    """Return the boxes of (B, T, W) and (B, T, H) bool: which columns and rows have a pixel of the segment."""
    left, right = _ends(columns)
    top, bottom = _ends(rows)
    boxes = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], dim=-1)
    return boxes * columns.any(-1, keepdim=True)


def _ends(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the occupied places begin and end, (B, T) each, in shares of their number."""
    extent = occupied.shape[-1]
    first = occupied.byte().argmax(-1)
    last = extent - occupied.flip(-1).byte().argmax(-1)
    return first / extent, last / extent
