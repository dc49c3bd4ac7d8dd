"""Ground truth of a batch: one integer map per image, boolean masks where segments overlap, or boxes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from maskformer_ext.ops.support import target_checks
from maskformer_ext.ops.support.batch_targets import BatchTargets
from maskformer_ext.ops.support.checks import check_floating, check_same_device, check_tensor, whole_number
from maskformer_ext.ops.support.predictions import check_size

VOID = -1
"""Value of ``segment_map`` where a pixel belongs to no segment."""


@dataclass(frozen=True)
class SegmentTargets(BatchTargets):
    """Segments that do not overlap.

    Attributes:
        segment_map: (B, H, W) int32, or int16 where T is at most 32768. It holds the index of the segment that owns
            the pixel, ``VOID`` (-1) for none.
        labels: (B, T) int64 class ids; what lies beyond ``num_segments`` is ignored.
        num_segments: (B,) int64.
    """

    _per_segment = ("labels",)
    segment_map: Tensor
    labels: Tensor
    num_segments: Tensor
    _pairs: tuple[Tensor, Tensor] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        name = "SegmentTargets"
        target_checks.check_fields(name, self.segment_map, "segment_map", 3, self.labels, self.num_segments)
        target_checks.check_map_dtype(name, self.segment_map.dtype, self.labels.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.segment_map.shape[-2], self.segment_map.shape[-1]

    def to_masks(self) -> MaskTargets:
        """Expand to one boolean mask per segment (for comparison with other code; costs T times the memory)."""
        index = torch.arange(self.labels.shape[1], device=self.device).view(1, -1, 1, 1)
        masks = self.segment_map.unsqueeze(1) == index
        return MaskTargets(masks, self.labels, self.num_segments, void=self.segment_map == VOID)

    @staticmethod
    def from_masks(masks: Sequence[Tensor], labels: Sequence[Tensor]) -> SegmentTargets | MaskTargets:
        """Build targets from one mask per segment.

        Args:
            masks: for each image (T_i, H, W), bool, uint8 or float 0/1; all images of one size.
            labels: for each image (T_i,) class ids.

        Returns:
            ``SegmentTargets`` where no two masks of an image overlap, otherwise ``MaskTargets``.

        Raises:
            TypeError: if labels are no integers.
            ValueError: if there is no image, or the lists differ in length.
            ValueError: if an image has another number of masks than labels, or images differ in size or device.
        """
        target_checks.check_masks("from_masks", masks, labels)
        boolean = [mask != 0 for mask in masks]
        if any(len(mask) > 1 and bool((mask.sum(0) > 1).any()) for mask in boolean):
            return _stack_masks(boolean, labels)
        maps = []
        for mask in boolean:
            owner = torch.full(mask.shape[1:], VOID, dtype=torch.int32, device=mask.device)
            if len(mask):
                best, index = mask.max(0)
                owner = torch.where(best, index.int(), owner)
            maps.append(owner)
        return stack_segments(torch.stack(maps), labels)

    @staticmethod
    def from_label_map(label_map: Tensor, ignore: int = 255) -> SegmentTargets:
        """Build targets for semantic segmentation: one segment per class that is present, in ascending order.

        Args:
            label_map: (B, H, W) or (H, W) integer class ids.
            ignore: the value that means void.

        Raises:
            TypeError: if ``label_map`` or ``ignore`` is not integer.
            ValueError: if ``label_map`` has another shape, or a value that is neither a class id nor ``ignore``.
        """
        ignore = whole_number("from_label_map", "ignore", ignore)
        maps, labels = [], []
        for number, image in enumerate(target_checks.as_batch("from_label_map", "label_map", label_map)):
            present, inverse = torch.unique(image, return_inverse=True)
            keep = present != ignore
            if bool((present[keep] < 0).any()):
                raise ValueError(
                    f"from_label_map: label_map must hold class ids from 0, or ignore = {ignore}, "
                    f"got {int(present[keep][0])} in image {number}"
                )
            renumber = torch.where(keep, keep.cumsum(0) - 1, VOID).int()
            maps.append(renumber[inverse])
            labels.append(present[keep])
        return stack_segments(torch.stack(maps), labels)

    @staticmethod
    def from_id_map(id_map: Tensor, categories: Mapping[int, int] | Sequence[Mapping[int, int]]) -> SegmentTargets:
        """Build targets from a map of arbitrary segment ids.

        Args:
            id_map: (B, H, W) or (H, W) integer segment ids.
            categories: class id of each segment id, for each image; others (background, crowd) are void.

        Raises:
            TypeError: if ``id_map``, a segment id or a class id is not integer.
            ValueError: if ``id_map`` has another shape, or there is not one table for each image.
        """
        batch = target_checks.as_batch("from_id_map", "id_map", id_map)
        tables = [categories] if isinstance(categories, Mapping) else list(categories)
        target_checks.check_categories("from_id_map", tables, len(batch))
        maps, labels = [], []
        for image, table in zip(batch, tables, strict=True):
            present, inverse = torch.unique(image, return_inverse=True)
            index_of = {segment_id: index for index, segment_id in enumerate(table)}
            renumber = [index_of.get(segment_id, VOID) for segment_id in present.tolist()]
            maps.append(torch.tensor(renumber, dtype=torch.int32, device=image.device)[inverse])
            labels.append(torch.tensor(list(table.values()), dtype=torch.int64, device=image.device))
        return stack_segments(torch.stack(maps), labels)

    @staticmethod
    def collate(targets: Sequence[SegmentTargets], size: tuple[int, int] | None = None) -> SegmentTargets:
        """Join batches into one, padded with void at the right and bottom.

        Args:
            targets: batches of any size.
            size: height and width of the result, at least the largest of them (default).

        Returns:
            One batch; its map is int16 where all are and none has more than 32768 segments, otherwise int32.

        Raises:
            TypeError: if one of them is no ``SegmentTargets``, or ``size`` is no pair of integers.
            ValueError: if there is none, ``size`` is too small, a number of segments lies outside [0, T], or they are
                on several devices.
        """
        if not len(targets):
            raise ValueError("collate: targets must hold at least one batch, got none")
        for index, target in enumerate(targets):
            if not isinstance(target, SegmentTargets):
                raise TypeError(f"collate: targets[{index}] must be SegmentTargets, got {type(target).__name__}")
            first = targets[0].segment_map
            check_same_device("collate", **{"targets[0]": first, f"targets[{index}]": target.segment_map})
        if size is not None:
            check_size("collate", "size", size)
        height, width = size or (max(t.size[0] for t in targets), max(t.size[1] for t in targets))
        maps, labels = [], []
        for target in targets:
            h, w = target.size
            if h > height or w > width:
                raise ValueError(f"collate: size {(height, width)} must hold every segment_map, got one of {(h, w)}")
            maps.append(F.pad(target.segment_map, (0, width - w, 0, height - h), value=VOID))
            counts = target.known_counts("collate")
            labels += [row[:count] for row, count in zip(target.labels, counts, strict=True)]
        most = max((len(row) for row in labels), default=0)
        narrow = all(m.dtype == torch.int16 for m in maps) and most <= target_checks.MOST_INT16_SEGMENTS
        dtype = torch.int16 if narrow else torch.int32
        return stack_segments(torch.cat([m.to(dtype) for m in maps]), labels)


@dataclass(frozen=True)
class MaskTargets(BatchTargets):
    """Segments that may overlap.

    Attributes:
        masks: (B, T, H, W) bool (uint8 and float 0/1 accepted by the ops).
        labels: (B, T) int64 class ids; what lies beyond ``num_segments`` is ignored.
        num_segments: (B,) int64.
        void: (B, H, W) bool, needed by ``ignore_void``.
    """

    _per_segment = ("masks", "labels")
    masks: Tensor
    labels: Tensor
    num_segments: Tensor
    void: Tensor | None = None
    _pairs: tuple[Tensor, Tensor] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        target_checks.check_fields("MaskTargets", self.masks, "masks", 4, self.labels, self.num_segments)
        if self.masks.shape[1] != self.labels.shape[1]:
            raise ValueError(
                f"MaskTargets: masks must hold T = {self.labels.shape[1]} segments, as labels, "
                f"got {tuple(self.masks.shape)}"
            )
        expected = (self.masks.shape[0], *self.masks.shape[2:])
        if self.void is not None:
            check_tensor("MaskTargets", "void", self.void)
        if self.void is not None and tuple(self.void.shape) != expected:
            raise ValueError(f"MaskTargets: void must be (B, H, W) = {expected}, got {tuple(self.void.shape)}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.masks.shape[-2], self.masks.shape[-1]

    @staticmethod
    def from_masks(masks: Sequence[Tensor], labels: Sequence[Tensor]) -> MaskTargets:
        """Build targets from one mask per segment, (T_i, H, W) and (T_i,) for each image, padded to the largest T.

        Raises:
            TypeError: if labels are no integers.
            ValueError: as ``SegmentTargets.from_masks``.
        """
        target_checks.check_masks("from_masks", masks, labels)
        return _stack_masks([mask != 0 for mask in masks], labels)


@dataclass(frozen=True)
class BoxTargets(BatchTargets):
    """Objects with a box each, as detection models are trained on.

    Attributes:
        boxes: (B, T, 4) floating, centre x, centre y, width and height over the image's size.
        labels: (B, T) int64 class ids; what lies beyond ``num_segments`` is ignored, as in ``boxes``.
        num_segments: (B,) int64, how many of the T columns are objects.
    """

    _per_segment = ("boxes", "labels")
    boxes: Tensor
    labels: Tensor
    num_segments: Tensor
    _pairs: tuple[Tensor, Tensor] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        name = "BoxTargets"
        target_checks.check_fields(name, self.boxes, "boxes", 3, self.labels, self.num_segments, layout="(B, T, 4)")
        check_floating(name, boxes=self.boxes)
        if tuple(self.boxes.shape[1:]) != (self.labels.shape[1], 4):
            raise ValueError(
                f"BoxTargets: boxes must be (B, T, 4) with T = {self.labels.shape[1]}, as labels, "
                f"got {tuple(self.boxes.shape)}"
            )

    @staticmethod
    def from_boxes(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> BoxTargets:
        """Build targets from the boxes (T_i, 4) and class ids (T_i,) of each image, padded to the largest T.

        Raises:
            TypeError: if boxes are not floating, or labels no integers.
            ValueError: if there is no image, or the lists differ in length.
            ValueError: if an image has another number of boxes than labels, or images differ in device.
        """
        target_checks.check_boxes("from_boxes", boxes, labels)
        padded, counts = _pad_labels(labels, boxes[0].device)
        dtype = functools.reduce(torch.promote_types, (image.dtype for image in boxes))
        stacked = torch.zeros((*padded.shape, 4), dtype=dtype, device=padded.device)
        for row, image in zip(stacked, boxes, strict=True):
            row[: len(image)] = image
        return BoxTargets(stacked, padded, counts)

    @staticmethod
    def from_dicts(labels: Sequence[Mapping[str, Tensor]]) -> BoxTargets:
        """Build targets from the labels of transformers' detection models: ``boxes`` and ``class_labels`` per image.

        Raises:
            TypeError: if an image's labels are no mapping; also as ``from_boxes``.
            ValueError: if an image lacks one of the two; also as ``from_boxes``.
        """
        for image, entries in enumerate(labels):
            if not isinstance(entries, Mapping):
                raise TypeError(f"from_dicts: labels[{image}] must be a mapping, got {type(entries).__name__}")
            for name in ("boxes", "class_labels"):
                if name not in entries:
                    raise ValueError(f"from_dicts: labels[{image}] must hold {name}, got {sorted(entries)}")
        return BoxTargets.from_boxes([image["boxes"] for image in labels], [image["class_labels"] for image in labels])


def _pad_labels(labels: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    counts = torch.tensor([len(label) for label in labels], dtype=torch.int64)
    padded = torch.zeros((len(labels), int(counts.max()) if len(counts) else 0), dtype=torch.int64, device=device)
    for row, label in zip(padded, labels, strict=True):
        row[: len(label)] = label
    return padded, counts.to(device)


def stack_segments(segment_map: Tensor, labels: Sequence[Tensor]) -> SegmentTargets:
    """Join (B, H, W) segment indices and the class ids (T_i,) of each image, padded to the largest T.

    Raises:
        TypeError: if labels are no integers.
        ValueError: if there is not one row of labels for each image.
    """
    if len(labels) != len(segment_map):
        raise ValueError(
            f"SegmentTargets: labels must have one entry per image, B = {len(segment_map)}, got {len(labels)}"
        )
    for image, row in enumerate(labels):
        target_checks.check_labels("SegmentTargets", image, row)
    padded, counts = _pad_labels(labels, segment_map.device)
    return SegmentTargets(segment_map, padded, counts).with_pairs()


def _stack_masks(masks: Sequence[Tensor], labels: Sequence[Tensor]) -> MaskTargets:
    padded, counts = _pad_labels(labels, masks[0].device)
    stacked = torch.zeros((len(masks), padded.shape[1], *masks[0].shape[1:]), dtype=torch.bool, device=masks[0].device)
    for row, mask in zip(stacked, masks, strict=True):
        row[: len(mask)] = mask
    return MaskTargets(stacked, padded, counts).with_pairs()
