"""Checks of the targets that the matching costs share, and their form for the kernels."""

import torch
from torch import Tensor

from maskformer_ext.ops import _checks
from maskformer_ext.ops.targets import VOID, MaskTargets, SegmentTargets


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
        ValueError: a label, a segment id or a number of segments is out of range (on the CPU, not compiled).
    """
    void = None
    if isinstance(targets, SegmentTargets):
        pixels = targets.segment_map
    else:
        pixels = targets.masks if targets.masks.dtype in (torch.bool, torch.uint8) else targets.masks != 0
        void = targets.void if flags[0] else None
    kernel = getattr(torch.ops.maskformer_ext, op)
    numbers = [float(option) for option in options]
    try:
        return kernel(*predictions, pixels, targets.labels, targets.num_segments, void, *numbers, *flags)
    except RuntimeError:
        if not torch.compiler.is_compiling() and pixels.device.type == "cpu":
            check_values(op, predictions[0].shape[-1] - 1, targets)  # the same complaint as a ValueError
        raise


def fake_cost(class_logits: Tensor, pixels: Tensor, labels: Tensor, *rest) -> Tensor:
    """Return an empty cost for the arguments of a native matching cost without the mask predictions."""
    return class_logits.new_empty((*class_logits.shape[:-1], labels.shape[1]), dtype=torch.float32)


def check_values(op: str, num_classes: int, targets: SegmentTargets | MaskTargets) -> None:
    """Raise ValueError where a label, a segment id or a number of segments is out of range (reads the tensors)."""
    num_segments, capacity = targets.num_segments, targets.labels.shape[1]
    if bool(((num_segments < 0) | (num_segments > capacity)).any()):
        raise ValueError(f"{op}: num_segments must lie between 0 and T = {capacity}, got {num_segments.tolist()}")
    real = torch.arange(capacity) < num_segments.unsqueeze(-1)
    wrong = real & ((targets.labels < 0) | (targets.labels >= num_classes))
    if bool(wrong.any()):
        image, segment = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"{op}: labels must lie between 0 and K - 1 = {num_classes - 1}, "
            f"got {int(targets.labels[image, segment])} for segment {segment} of image {image}"
        )
    if isinstance(targets, SegmentTargets) and targets.segment_map.numel():
        least, most = torch.aminmax(targets.segment_map.flatten(1), dim=1)
        for image, (low, high, count) in enumerate(
            zip(least.tolist(), most.tolist(), num_segments.tolist(), strict=True)
        ):
            if low < VOID or high >= count:
                raise ValueError(
                    f"{op}: segment_map must lie between -1 and num_segments - 1 = {count - 1} in image {image}, "
                    f"got values from {low} to {high}"
                )
