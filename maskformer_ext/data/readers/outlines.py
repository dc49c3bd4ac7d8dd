"""Objects that files outline by polygons or run lengths, one after the other: from outlines to a sample of any task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.data.classes import ClassTable, palette
from maskformer_ext.data.formats.coco_masks import rasterise
from maskformer_ext.data.targets import count_segments, keep_segments
from maskformer_ext.data.tasks import TaskView
from maskformer_ext.data.types import Sample, TrueInstance, Truth
from maskformer_ext.errors import UserError, why
from maskformer_ext.ops.targets import VOID


@dataclass(frozen=True)
class Outline:
    """An object as its file gives it.

    Attributes:
        where: which object it is, for errors: "annotation 7 of a.jpg", "line 3".
        label: its class in the table.
        segmentation: polygons [[x, y, x, y, ...], ...] in pixels, or COCO's run lengths.
        crowd: whether it is a region of many objects that are not told apart.
        area: in pixels, as the file says; None: that of the mask.
    """

    where: str
    label: int
    segmentation: Any
    crowd: bool = False
    area: float | None = None


def with_background(table: ClassTable, name: str) -> tuple[ClassTable, int | None]:
    """Add the class of all pixels outside of every outline, as stuff.

    Args:
        table: the classes of the file.
        name: of the class, ``data.background``; empty: those pixels are void.

    Returns:
        The table, and the id of that class; None where the pixels are void. A class of the file that has the name is
        taken, and is then stuff.
    """
    if not name:
        return table, None
    if name in table.classes:
        label = table.classes.index(name)
        return replace(table, things=tuple(thing for thing in table.things if thing != label)), label
    label = len(table.classes)
    color = palette(label + 1)[-1]
    return replace(table, classes=(*table.classes, name), colors=(*table.colors, color)), label


def sample_of_outlines(
    image: Tensor,
    name: str,
    outlines: Sequence[Outline],
    view: TaskView,
    file: Path,
    *,
    background: int | None = None,
) -> Sample:
    """Draw the outlines of an image, and return the segments that the task asks for.

    Where objects overlap, the smaller one owns the pixel in the segment map. For the task "instance" the sample also
    has all of each mask, and its ``truth`` has the instances as the file gives them. Crowd regions are void in
    training, but for the task "semantic".

    Args:
        image: (3, H, W) uint8.
        name: what errors and results call the image.
        outlines: its objects.
        view: the classes as the task sees them.
        file: that the outlines come from, for errors.
        background: class of the table that owns all other pixels where the task knows stuff; None: they are void.

    Raises:
        UserError: if a segmentation is neither polygons nor run lengths of the image.
    """
    size = (int(image.shape[-2]), int(image.shape[-1]))
    drawn = [_draw(outline, size, file) for outline in outlines]
    if view.task == "instance":
        return _instances(image, name, outlines, drawn, view, size)
    stack = torch.from_numpy(np.array([mask for _, mask in drawn], bool).reshape(-1, *size))
    areas = mask_areas(stack)
    labels = torch.tensor([outline.label for outline in outlines], dtype=torch.int64)
    crowd = torch.tensor([outline.crowd for outline in outlines], dtype=torch.bool)
    segment_map = paint_smaller_on_top(stack, areas)
    void, visible = count_segments(segment_map, len(labels))
    if background is not None and void:
        segment_map.masked_fill_(segment_map == VOID, len(labels))
        labels = torch.cat([labels, torch.tensor([background])])
        crowd = torch.cat([crowd, torch.tensor([False])])
        visible = torch.cat([visible, torch.tensor([void])])
    stuff = torch.tensor([label not in view.info.thing_classes for label in labels.tolist()], dtype=torch.bool)
    segment_map, (labels, crowd) = _join_stuff(segment_map, labels, crowd, stuff, visible > 0)
    if view.task == "semantic" or not crowd.any():
        return Sample(image, *view.segments(segment_map, labels), name, size)
    truth = Truth(segment_map, labels, crowd)
    return Sample(image, *view.segments(*keep_segments(segment_map, labels, ~crowd)), name, size, truth)


def mask_areas(masks: Tensor) -> Tensor:
    """Return how many pixels each of the masks (T, H, W) bool owns: (T,) int32."""
    return masks.view(torch.uint8).flatten(1).sum(1, dtype=torch.int32)


def paint_smaller_on_top(masks: Tensor, areas: Tensor) -> Tensor:
    """Return the segment map (H, W) int32 of masks (T, H, W) bool: the smallest owns a pixel, VOID none."""
    segment_map = torch.full(masks.shape[1:], VOID, dtype=torch.int32)
    for index in areas.argsort(descending=True, stable=True).tolist():
        segment_map.masked_fill_(masks[index], index)
    return segment_map


def _draw(outline: Outline, size: tuple[int, int], file: Path) -> tuple[dict[str, Any], np.ndarray]:
    try:
        return rasterise(outline.segmentation, size)
    except ValueError as error:
        raise UserError(
            f"{file}: the segmentation of {outline.where} is neither polygons nor run lengths of its image "
            f"({why(error)})."
        ) from None


def _instances(
    image: Tensor,
    name: str,
    outlines: Sequence[Outline],
    drawn: Sequence[tuple[dict[str, Any], np.ndarray]],
    view: TaskView,
    size: tuple[int, int],
) -> Sample:
    whole = tuple(
        TrueInstance(
            int(view.new_class[outline.label]),
            rle,
            int(mask.sum()) if outline.area is None else outline.area,
            outline.crowd,
        )
        for outline, (rle, mask) in zip(outlines, drawn, strict=True)
    )
    told_apart = [index for index, outline in enumerate(outlines) if not outline.crowd]
    stack = torch.from_numpy(np.array([drawn[index][1] for index in told_apart], bool).reshape(-1, *size))
    labels = torch.tensor([outlines[index].label for index in told_apart], dtype=torch.int64)
    areas = mask_areas(stack)
    visible = areas > 0  # a polygon may be too thin for a pixel
    if not visible.all():
        stack, areas, labels = stack[visible], areas[visible], labels[visible]
    segment_map = paint_smaller_on_top(stack, areas)
    kept = view.new_class[labels]
    void, owned = count_segments(segment_map, len(kept))
    top, top_labels = keep_segments(segment_map, kept, owned > 0)
    overlap = int(areas.sum()) > segment_map.numel() - void
    truth = Truth(top, top_labels, instances=whole)
    return Sample(image, segment_map, kept, name, size, truth, stack if overlap else None)


def _join_stuff(
    segment_map: Tensor, labels: Tensor, crowd: Tensor, stuff: Tensor, visible: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Make one segment of all outlines of a stuff class, and drop those that own no pixel."""
    target = torch.arange(len(labels), dtype=torch.int64)
    for label in labels[stuff].unique().tolist():
        members = stuff & (labels == label) & visible
        target[members] = target[members][:1]
    keep = visible & (target == torch.arange(len(labels)))
    number = torch.full((len(labels) + 1,), VOID, dtype=torch.int32)  # VOID reads the last entry
    number[:-1][keep] = torch.arange(int(keep.sum()), dtype=torch.int32)
    number[:-1] = number[:-1][target]
    return number[segment_map.long()], (labels[keep], crowd[keep] & ~stuff[keep])
