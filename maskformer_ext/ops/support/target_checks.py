"""Checks of what targets are built from; each raises one sentence: argument, what it must be, what it was."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from maskformer_ext.ops.support.checks import (
    check_floating,
    check_integer,
    check_same_device,
    check_tensor,
    shape,
    whole_number,
)

MOST_INT16_SEGMENTS = 1 << 15
"""How many segments an int16 map can name; one id more would be read as a negative one, which is void."""


def check_fields(
    name: str,
    pixels: Tensor,
    pixels_name: str,
    dims: int,
    labels: Tensor,
    num_segments: Tensor,
    *,
    layout: str | None = None,
) -> None:
    """Raise TypeError or ValueError unless the fields that all forms of targets have fit together."""
    layout = layout or {3: "(B, H, W)", 4: "(B, T, H, W)"}[dims]
    for what, tensor in ((pixels_name, pixels), ("labels", labels), ("num_segments", num_segments)):
        check_tensor(name, what, tensor)
    if pixels.dim() != dims:
        raise ValueError(f"{name}: {pixels_name} must be {layout}, got {shape(pixels)}")
    batch = pixels.shape[0]
    if labels.dim() != 2 or labels.shape[0] != batch:
        raise ValueError(f"{name}: labels must be (B, T) with B = {batch}, got {shape(labels)}")
    if tuple(num_segments.shape) != (batch,):
        raise ValueError(f"{name}: num_segments must be (B,) with B = {batch}, got {shape(num_segments)}")
    for tensor, what in ((labels, "labels"), (num_segments, "num_segments")):
        if tensor.dtype != torch.int64:
            raise TypeError(f"{name}: {what} must be int64, got {tensor.dtype}")


def check_map_dtype(name: str, dtype: torch.dtype, num_segments: int) -> None:
    """Raise TypeError for a segment map of another dtype, ValueError for one that is too narrow for its segments."""
    if dtype not in (torch.int16, torch.int32):
        raise TypeError(f"{name}: segment_map must be int16 or int32, got {dtype}")
    if dtype == torch.int16 and num_segments > MOST_INT16_SEGMENTS:
        raise ValueError(
            f"{name}: segment_map must be int32 for more than {MOST_INT16_SEGMENTS} segments, "
            f"got int16 for T = {num_segments}"
        )


def check_masks(op: str, masks: Sequence[Tensor], labels: Sequence[Tensor]) -> None:
    """Raise TypeError or ValueError unless there is one mask for each label, all of one size and on one device."""
    if len(masks) != len(labels):
        raise ValueError(f"{op}: masks and labels must have one entry per image, got {len(masks)}, {len(labels)}")
    if not len(masks):
        raise ValueError(f"{op}: masks must hold at least one image, got none")
    for image, (mask, label) in enumerate(zip(masks, labels, strict=True)):
        check_tensor(op, f"masks[{image}]", mask)
        check_labels(op, image, label)
        if mask.dim() != 3 or len(mask) != len(label):
            raise ValueError(
                f"{op}: masks[{image}] must be (T, H, W) with T = {len(label)}, as labels[{image}], got {shape(mask)}"
            )
        if mask.shape[1:] != masks[0].shape[1:]:
            raise ValueError(
                f"{op}: masks[{image}] must have the size of masks[0], {tuple(masks[0].shape[1:])}, "
                f"got {tuple(mask.shape[1:])}"
            )
        check_same_device(op, **{"masks[0]": masks[0], f"masks[{image}]": mask})


def check_boxes(op: str, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> None:
    """Raise TypeError or ValueError unless there is one box for each label, all on one device."""
    if len(boxes) != len(labels):
        raise ValueError(f"{op}: boxes and labels must have one entry per image, got {len(boxes)}, {len(labels)}")
    if not len(boxes):
        raise ValueError(f"{op}: boxes must hold at least one image, got none")
    for image, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        check_floating(op, **{f"boxes[{image}]": box})
        check_labels(op, image, label)
        if tuple(box.shape) != (len(label), 4):
            raise ValueError(
                f"{op}: boxes[{image}] must be (T, 4) with T = {len(label)}, as labels[{image}], got {shape(box)}"
            )
        check_same_device(op, **{"boxes[0]": boxes[0], f"boxes[{image}]": box})


def check_labels(op: str, image: int, labels: Tensor) -> None:
    """Raise TypeError or ValueError unless the labels of an image are (T,) integers; none may be of any dtype."""
    name = f"labels[{image}]"
    check_tensor(op, name, labels)
    if labels.dim() != 1:
        raise ValueError(f"{op}: {name} must be (T,), got {shape(labels)}")
    if len(labels):
        check_integer(op, **{name: labels})


def as_batch(op: str, name: str, pixels: Tensor) -> Tensor:
    """Return a map of integers (B, H, W) or (H, W) as (B, H, W) int64; raise TypeError or ValueError otherwise."""
    check_tensor(op, name, pixels)
    if pixels.dtype != torch.bool:
        check_integer(op, **{name: pixels})
    if pixels.dim() not in (2, 3):
        raise ValueError(f"{op}: {name} must be (B, H, W) or (H, W), got {shape(pixels)}")
    batch = pixels.unsqueeze(0) if pixels.dim() == 2 else pixels
    if not len(batch):
        raise ValueError(f"{op}: {name} must hold at least one image, got {shape(pixels)}")
    return batch.long()


def check_categories(op: str, tables: Sequence[Mapping[int, int]], batch: int) -> None:
    """Raise TypeError or ValueError unless there is a table from segment ids to class ids for each image."""
    if len(tables) != batch:
        raise ValueError(f"{op}: categories must have one table per image, B = {batch}, got {len(tables)}")
    for image, table in enumerate(tables):
        if not isinstance(table, Mapping):
            raise TypeError(f"{op}: categories[{image}] must be a mapping, got {type(table).__name__}")
        _check_whole(op, f"the segment ids of categories[{image}]", table)
        _check_whole(op, f"the class ids of categories[{image}]", table.values())


def _check_whole(op: str, name: str, numbers: Iterable[int]) -> None:
    for number in numbers:
        whole_number(op, name, number)
