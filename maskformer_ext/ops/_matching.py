"""Checks of the targets that the matching costs share, and their form for the kernels."""

import torch
from torch import Tensor

from maskformer_ext.ops import _checks, _values
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets


def check_targets(
    op: str,
    class_logits: Tensor,
    targets: SegmentTargets | MaskTargets,
    *,
    batch: int,
    size: torch.Size,
    gamma: float,
    ignore_void: bool,
) -> None:
    """Raise TypeError or ValueError unless the targets fit predictions of ``batch`` images at ``size`` (h, w)."""
    if not isinstance(targets, SegmentTargets | MaskTargets):
        raise TypeError(f"{op}: targets must be SegmentTargets or MaskTargets, got {type(targets).__name__}")
    if batch != targets.labels.shape[0]:
        raise ValueError(f"{op}: targets must hold B = {batch} images, got {targets.labels.shape[0]}")
    if 0 in targets.size and 0 not in size:
        raise ValueError(f"{op}: targets must have at least one pixel, got size {tuple(targets.size)}")
    pixels = targets.segment_map if isinstance(targets, SegmentTargets) else targets.masks
    _checks.check_same_device(
        op, class_logits=class_logits, targets=pixels, labels=targets.labels, num_segments=targets.num_segments
    )
    if gamma < 0:
        raise ValueError(f"{op}: gamma must be at least 0, got {gamma}")
    if ignore_void and isinstance(targets, MaskTargets) and targets.void is None:
        raise ValueError(f"{op}: targets.void must be given with ignore_void=True, got None")


def call_kernel(
    op: str,
    predictions: tuple[Tensor, ...],
    targets: SegmentTargets | MaskTargets,
    *options: float,
    flags: tuple[bool, ...],
) -> Tensor:
    """Call a native matching cost.

    Args:
        op: its name.
        predictions: tensors, the class logits first.
        targets: the segments.
        options: weights, alpha, gamma.
        flags: ignore_void, then what only this op takes.

    Raises:
        ValueError: a label, a segment id or a number of segments is out of range, where `_values.may_read` says so.
    """
    void = None
    if isinstance(targets, SegmentTargets):
        pixels = targets.segment_map
    else:
        pixels = targets.masks if targets.masks.dtype in (torch.bool, torch.uint8) else targets.masks != 0
        void = targets.void if flags[0] else None
    kernel = getattr(torch.ops.maskformer_ext, op)
    numbers = [float(option) for option in options]
    return _values.call_checked(
        kernel,
        *predictions,
        pixels,
        targets.labels,
        targets.num_segments,
        void,
        *numbers,
        *flags,
        device=pixels.device,
        check=lambda: check_values(op, predictions[0].shape[-1] - 1, targets),
    )


def fake_cost(class_logits: Tensor, pixels: Tensor, labels: Tensor, *rest) -> Tensor:
    """Return an empty cost for the arguments of a native matching cost without the mask predictions."""
    return class_logits.new_empty((*class_logits.shape[:-1], labels.shape[1]), dtype=torch.float32)


def check_values(op: str, num_classes: int, targets: SegmentTargets | MaskTargets) -> None:
    """Raise ValueError where a label, a segment id or a number of segments is out of range (reads the tensors)."""
    _values.check_targets(op, targets)
    _values.check_labels(op, targets, num_classes)
