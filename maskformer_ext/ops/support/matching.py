"""Checks of the targets that the matching costs share, and their form for the kernels."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskformer_ext.ops.support import checks, value_checks
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets


class CostOptions(NamedTuple):
    """What the matching costs are told beside predictions and targets; ``matching_cost`` says what each means."""

    class_weight: float = 1.0
    focal_weight: float = 20.0
    dice_weight: float = 1.0
    alpha: float = 0.25
    gamma: float = 2.0
    ignore_void: bool = False

    def check(self, op: str) -> None:
        """Raise TypeError or ValueError unless every option is in its range."""
        checks.check_finite(
            op, class_weight=self.class_weight, focal_weight=self.focal_weight, dice_weight=self.dice_weight
        )
        checks.check_focal(op, self.alpha, self.gamma)
        checks.check_flag(op, ignore_void=self.ignore_void)


def check_targets(
    op: str,
    class_logits: Tensor,
    targets: SegmentTargets | MaskTargets,
    *,
    batch: int,
    size: torch.Size,
    options: CostOptions,
) -> None:
    """Raise TypeError or ValueError unless the targets fit predictions of ``batch`` images at ``size`` (h, w)."""
    options.check(op)
    if not isinstance(targets, SegmentTargets | MaskTargets):
        raise TypeError(f"{op}: targets must be SegmentTargets or MaskTargets, got {type(targets).__name__}")
    if batch != targets.labels.shape[0]:
        raise ValueError(f"{op}: targets must hold B = {batch} images, got {targets.labels.shape[0]}")
    if 0 in targets.size and 0 not in size:
        raise ValueError(f"{op}: targets must have at least one pixel, got size {tuple(targets.size)}")
    void = void_pixels(op, targets, options.ignore_void)
    pixels = targets.segment_map if isinstance(targets, SegmentTargets) else targets.masks
    checks.check_same_device(
        op,
        class_logits=class_logits,
        targets=pixels,
        labels=targets.labels,
        num_segments=targets.num_segments,
        void=void,
    )
    if isinstance(targets, MaskTargets):
        checks.check_target_dtype(op, pixels)


def void_pixels(op: str, targets: SegmentTargets | MaskTargets, ignore_void: bool) -> Tensor | None:
    """Return the void pixels where they are needed and are not in the segment map itself.

    Raises:
        TypeError: they are not bool.
        ValueError: they are needed and missing.
    """
    if not ignore_void or isinstance(targets, SegmentTargets):
        return None
    if targets.void is None:
        raise ValueError(f"{op}: targets.void must be given with ignore_void=True, got None")
    if targets.void.dtype != torch.bool:
        raise TypeError(f"{op}: targets.void must be bool, got {targets.void.dtype}")
    return targets.void


def call_kernel(
    op: str,
    predictions: tuple[Tensor, ...],
    targets: SegmentTargets | MaskTargets,
    options: CostOptions,
    *flags: bool,
) -> Tensor:
    """Call a native matching cost.

    Args:
        op: its name.
        predictions: tensors, the class logits first.
        targets: the segments.
        options: of the cost.
        flags: what only this op takes.

    Raises:
        ValueError: a label, a segment id or a number of segments is out of range, where values may be read.
    """
    void = None
    if isinstance(targets, SegmentTargets):
        pixels = targets.segment_map
    else:
        pixels = targets.masks if targets.masks.dtype in (torch.bool, torch.uint8) else targets.masks != 0
        void = void_pixels(op, targets, options.ignore_void)
    kernel = getattr(torch.ops.maskformer_ext, op)
    return value_checks.call_checked(
        kernel,
        *predictions,
        pixels,
        targets.labels,
        targets.num_segments,
        void,
        float(options.class_weight),
        float(options.focal_weight),
        float(options.dice_weight),
        float(options.alpha) if options.alpha >= 0 else -1.0,
        float(options.gamma),
        options.ignore_void,
        *flags,
        device=pixels.device,
        check=lambda: check_values(op, predictions[0].shape[-1] - 1, targets),
    )


def fake_cost(class_logits: Tensor, pixels: Tensor, labels: Tensor, *rest: Any) -> Tensor:
    """Return an empty cost for the arguments of a native matching cost without the mask predictions."""
    return class_logits.new_empty((*class_logits.shape[:-1], labels.shape[1]), dtype=torch.float32)


def check_values(op: str, num_classes: int, targets: SegmentTargets | MaskTargets) -> None:
    """Raise ValueError where a label, a segment id or a number of segments is out of range (reads the tensors)."""
    value_checks.check_targets(op, targets)
    value_checks.check_labels(op, targets, num_classes)
