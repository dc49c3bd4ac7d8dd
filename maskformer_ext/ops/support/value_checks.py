"""Checks of what targets hold: ids, labels, counts. Reading them makes the host wait for a GPU.

The CPU kernels refuse values out of range. CUDA kernels treat them as void or as no pair and read nothing for them.
With ``MASKFORMER_EXT_CHECKS=1`` the checks below come first and raise there too.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from maskformer_ext.ops.support import checks
from maskformer_ext.ops.support.batch_targets import BatchTargets
from maskformer_ext.ops.targets import VOID, MaskTargets, SegmentTargets

# Read once, as MASKFORMER_EXT_REFERENCE.
CHECKS = os.environ.get("MASKFORMER_EXT_CHECKS", "0") == "1"


def may_read(device: torch.device) -> bool:
    """Return whether values on a device may be looked at: on the CPU, and elsewhere where it was asked for.

    Never in code that is being compiled, nor in a step that is being recorded in a CUDA graph.
    """
    if torch.compiler.is_compiling():
        return False
    if device.type == "cpu":
        return True
    return (
        CHECKS
        and device.type not in checks.WITHOUT_VALUES
        and not (device.type == "cuda" and torch.cuda.is_current_stream_capturing())
    )


def kernels_refuse(device: torch.device) -> bool:
    """Return whether the kernels of a device raise for values out of range by themselves."""
    return device.type == "cpu"


def call_checked(kernel: Callable, *args: Any, device: torch.device, check: Callable[[], None]) -> Any:
    """Call a native op so that values out of range raise what ``check`` raises, wherever they may be looked at.

    Args:
        kernel: the op.
        args: its arguments.
        device: where they are.
        check: raises ValueError for values out of range.

    Returns:
        What the op returns.
    """
    if not kernels_refuse(device) and may_read(device):
        check()
    try:
        return kernel(*args)
    except RuntimeError:
        if kernels_refuse(device) and may_read(device):
            check()  # the same complaint as on every other device
        raise


def check_targets(op: str, targets: SegmentTargets | MaskTargets) -> None:
    """Raise ValueError where a number of segments or an id in the segment map is out of range."""
    check_counts(op, targets)
    if isinstance(targets, MaskTargets) or not targets.segment_map.numel():
        return
    counts = targets.num_segments
    low, high = torch.aminmax(targets.segment_map.flatten(1), dim=1)
    wrong = (low < VOID) | (high >= counts)
    if bool(wrong.any()):
        image = _first(wrong)
        raise ValueError(
            f"{op}: targets.segment_map must hold ids in [-1, {int(counts[image])}) for image {image}, "
            f"got {int(low[image])} to {int(high[image])}"
        )


def check_counts(op: str, targets: BatchTargets) -> None:
    """Raise ValueError where a number of segments is out of range."""
    counts, capacity = targets.num_segments, targets.labels.shape[1]
    if bool(((counts < 0) | (counts > capacity)).any()):
        raise ValueError(f"{op}: targets.num_segments must lie in [0, T] with T = {capacity}, got {counts.tolist()}")


def check_labels(op: str, targets: BatchTargets, num_classes: int) -> None:
    """Raise ValueError where the label of a real segment is out of range."""
    capacity = targets.labels.shape[1]
    real = torch.arange(capacity, device=targets.device) < targets.num_segments.unsqueeze(-1)
    wrong = real & ((targets.labels < 0) | (targets.labels >= num_classes))
    if bool(wrong.any()):
        image, segment = divmod(_first(wrong.flatten()), capacity)
        raise ValueError(
            f"{op}: targets.labels must lie in [0, K) with K = {num_classes}, "
            f"got {int(targets.labels[image, segment])} for segment {segment} of image {image}"
        )


def check_pairs(op: str, targets: SegmentTargets | MaskTargets, image_index: Tensor, segment_index: Tensor) -> None:
    """Raise ValueError where a pair names an image or a segment that does not exist; -1 is legal in both."""
    images, counts = targets.labels.shape[0], targets.num_segments
    wrong = (image_index < -1) | (image_index >= images)
    if bool(wrong.any()):
        mask = _first(wrong)
        raise ValueError(f"{op}: image_index must lie in [-1, {images}), got {int(image_index[mask])} for mask {mask}")
    if not images:
        return
    wrong = (segment_index < -1) | ((image_index >= 0) & (segment_index >= counts[image_index.clamp(min=0)]))
    if bool(wrong.any()):
        mask = _first(wrong)
        image = int(image_index[mask])
        limit = int(counts[image]) if image >= 0 else 0
        raise ValueError(
            f"{op}: segment_index must lie in [-1, {limit}) for image {image}, got {int(segment_index[mask])} "
            f"for mask {mask}"
        )


def check_num_targets(op: str, num_targets: Tensor, capacity: int) -> None:
    """Raise ValueError where a problem (N,) has a number of targets out of range."""
    wrong = (num_targets < 0) | (num_targets > capacity)
    if bool(wrong.any()):
        problem = _first(wrong)
        raise ValueError(
            f"{op}: num_targets must lie in [0, T] with T = {capacity}, got {int(num_targets[problem])} "
            f"for problem {problem}"
        )


def count_invalid(targets: SegmentTargets | MaskTargets) -> Tensor:
    """Count, on the device, the numbers of segments and the pixels' ids that are out of range, () int64."""
    counts, capacity = targets.num_segments, targets.labels.shape[1]
    invalid = ((counts < 0) | (counts > capacity)).sum()
    if isinstance(targets, SegmentTargets):
        limit = counts.clamp(0, capacity).view(-1, 1, 1)
        invalid = invalid + ((targets.segment_map < VOID) | (targets.segment_map >= limit)).sum()
    return invalid


def _first(wrong: Tensor) -> int:
    """Return the place of the first True of a one-dimensional tensor."""
    return int(wrong.int().argmax())
