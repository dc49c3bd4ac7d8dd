"""What the losses of matched pairs share: their targets, the checks of their indices, which pairs are real."""

import torch
from torch import Tensor

from maskformer_ext.ops.support import value_checks
from maskformer_ext.ops.support.checks import check_integer, check_target_dtype, shape
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets


def target_pixels(op: str, targets: SegmentTargets | MaskTargets) -> Tensor:
    """Return the segment map or the masks of targets.

    Raises:
        TypeError: targets is no targets, or masks are of another dtype.
    """
    if isinstance(targets, SegmentTargets):
        return targets.segment_map
    if not isinstance(targets, MaskTargets):
        raise TypeError(f"{op}: targets must be SegmentTargets or MaskTargets, got {type(targets).__name__}")
    check_target_dtype(op, targets.masks)
    return targets.masks.detach()


def check_pair_indices(op: str, image_index: Tensor, segment_index: Tensor, masks: int) -> None:
    """Raise TypeError or ValueError unless both indices are (N,) int64, N as given."""
    for name, index in (("image_index", image_index), ("segment_index", segment_index)):
        check_integer(op, **{name: index})
        if index.dim() != 1 or index.shape[0] != masks:
            raise ValueError(f"{op}: {name} must be (N,) with N = {masks}, got {shape(index)}")
        if index.dtype != torch.int64:
            raise TypeError(f"{op}: {name} must be int64, got {index.dtype}")


def check_pair_values(
    op: str, targets: SegmentTargets | MaskTargets, image_index: Tensor, segment_index: Tensor
) -> None:
    """Raise ValueError if an id, an image or a segment is out of range."""
    value_checks.check_targets(op, targets)
    value_checks.check_pairs(op, targets, image_index, segment_index)


def real_pairs(
    targets: SegmentTargets | MaskTargets, image_index: Tensor, segment_index: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find which pairs are real, for references. There must be an image.

    Returns:
        paired: (N,) bool.
        image: (N,) int64, the image of each; some image where there is no pair.
        segment: (N,) int64, the segment of each; 0 where there is no pair.
        count: (N,) int64, the number of segments of that image.
    """
    images, capacity = targets.labels.shape
    image = image_index.clamp(0, images - 1)
    count = targets.num_segments.clamp(max=capacity)[image]
    paired = (image_index >= 0) & (image_index < images) & (segment_index >= 0) & (segment_index < count)
    return paired, image, torch.where(paired, segment_index, 0), count
