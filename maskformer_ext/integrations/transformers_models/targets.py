"""The labels that transformers' MaskFormer takes, as targets of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maskformer_ext.ops.support.target_checks import check_labels
from maskformer_ext.ops.targets import VOID, MaskTargets, SegmentTargets, stack_segments

Targets = SegmentTargets | MaskTargets


def make_targets(mask_labels: Any, class_labels: Any) -> Targets | None:
    """Convert the ``mask_labels`` and ``class_labels`` of a call.

    Args:
        mask_labels: masks, segment maps, or targets of ours. Masks are a float 0/1 or boolean (T, H, W) tensor per
            image, or one stacked, as in transformers. A segment map is (H, W) integers per image that index
            ``class_labels``, with -1 = void.
        class_labels: (T,) integers per image, of which the number of classes itself means "no object". Ignored where
            ``mask_labels`` are targets of ours.

    Returns:
        Targets, or None where ours cannot express the labels:

        - images of different sizes;
        - masks with values other than 0 and 1;
        - negative labels, of which transformers leaves -100 out of the class loss.

    Raises:
        TypeError: if class labels are no integers.
        ValueError: if masks and classes do not fit together, or an id of a segment map is beyond int32.
    """
    if isinstance(mask_labels, SegmentTargets | MaskTargets):
        return mask_labels
    masks, labels = list(mask_labels), [_as_labels(image, row) for image, row in enumerate(class_labels)]
    if len(masks) != len(labels):
        raise ValueError(
            f"mask_labels and class_labels must have one entry per image, got {len(masks)} and {len(labels)}"
        )
    if len({tuple(mask.shape[-2:]) for mask in masks}) != 1:
        return None
    if all(mask.dim() == 2 for mask in masks):
        return _from_segment_maps(masks, labels)
    for image, (mask, label) in enumerate(zip(masks, labels, strict=True)):
        if mask.dim() != 3 or len(mask) != len(label):
            raise ValueError(
                f"mask_labels[{image}] must be (T, H, W) with T = {len(label)}, as class_labels[{image}], "
                f"or a segment map (H, W) of integers, got {tuple(mask.shape)}"
            )
    if any(mask.is_floating_point() and not _is_binary(mask) for mask in masks):
        return None
    if any(bool((row < 0).any()) for row in labels):
        return None
    return SegmentTargets.from_masks(masks, labels)


def image_class_labels(mask_labels: Any, class_labels: Any) -> Sequence[Tensor]:
    """Return one (T,) tensor of class ids per image, also where ``mask_labels`` are targets of ours."""
    if not isinstance(mask_labels, SegmentTargets | MaskTargets):
        return class_labels
    counts = mask_labels.num_segments.tolist()
    return [row[:count] for row, count in zip(mask_labels.labels, counts, strict=True)]


def _as_labels(image: int, labels: Tensor) -> Tensor:
    check_labels("class_labels", image, labels)
    return labels.long()


def _is_binary(mask: Tensor) -> bool:
    return bool(((mask == 0) | (mask == 1)).all())


def _from_segment_maps(maps: Sequence[Tensor], labels: Sequence[Tensor]) -> SegmentTargets:
    if any(segments.is_floating_point() for segments in maps):
        raise ValueError(
            f"mask_labels: a segment map (H, W) must hold integers, {VOID} for void, got {maps[0].dtype}; "
            "masks are (T, H, W)"
        )
    for image, segments in enumerate(maps):
        if segments.dtype == torch.int64 and not torch.equal(segments, segments.int().long()):
            raise ValueError(f"mask_labels[{image}] must hold ids that fit into int32, got one beyond")
    dtype = torch.int16 if all(segments.dtype == torch.int16 for segments in maps) else torch.int32
    return stack_segments(torch.stack([segments.to(dtype) for segments in maps]), labels)
