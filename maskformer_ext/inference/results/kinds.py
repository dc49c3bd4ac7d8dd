"""The results of the three tasks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError
from maskformer_ext.inference.results.base import Result
from maskformer_ext.inference.results.context import PICTURED_SCORE, Context
from maskformer_ext.ops.instance_inference import Instances
from maskformer_ext.ops.support import rle

_WIDEST_MAP = np.iinfo(np.uint16).max
_BITS_OF_BYTE = np.array([byte.bit_count() for byte in range(256)], dtype=np.uint8)
_NOWHERE = Context()


@dataclass(frozen=True, repr=False)
class SemanticResult(Result):
    """The class of every pixel. Its segments are the classes that occur.

    Attributes:
        class_map: (H, W) int64 class ids.
    """

    task = "semantic"
    class_map: Tensor
    context: Context = field(default=_NOWHERE, kw_only=True, compare=False)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.class_map.shape[0], self.class_map.shape[1]

    def id_map(self, *, min_score: float = PICTURED_SCORE) -> np.ndarray:
        """Return the class ids, (H, W) uint8, or uint16 where there are more than 256 classes."""
        return self.class_map.cpu().numpy().astype(np.uint8 if self.info.num_classes <= 256 else np.uint16)

    def mask_of(self, index: int) -> np.ndarray:
        """Return the mask (H, W) bool of a class."""
        return _equal(self.class_map, self._segments[index]["id"])

    def rle_of(self, index: int) -> dict[str, Any]:
        """Return the run lengths of a class."""
        return _run_lengths(self.mask_of(index), self._segments[index]["box"])

    def _numbered_info(self) -> DatasetInfo:
        return numbered(int(self.class_map.max()) + 1 if self.class_map.numel() else 0)

    def _list_segments(self) -> list[dict[str, Any]]:
        from maskformer_ext.pictures.segment_maps import boxes_and_areas

        boxes, areas = boxes_and_areas(self.class_map.cpu().numpy())
        return [
            {"id": label, **_category(label, self.info), "area": int(areas[label]), "box": boxes[label].tolist()}
            for label in np.flatnonzero(areas).tolist()
        ]


@dataclass(frozen=True, repr=False)
class PanopticResult(Result):
    """The segment of every pixel.

    Attributes:
        segment_map: (H, W) int32 segment ids from 1, 0 = void.
        segments_info: for each segment ``id``, ``category_id``, ``isthing``, ``score`` and ``area`` in pixels.
    """

    task = "panoptic"
    segment_map: Tensor
    segments_info: list[dict[str, Any]]
    context: Context = field(default=_NOWHERE, kw_only=True, compare=False)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.segment_map.shape[0], self.segment_map.shape[1]

    def id_map(self, *, min_score: float = PICTURED_SCORE) -> np.ndarray:
        """Return the segment ids, (H, W) uint16, 0 = void; an error if there are more than 65535."""
        return _sixteen_bits(self.segment_map.cpu().numpy())

    def mask_of(self, index: int) -> np.ndarray:
        """Return the mask (H, W) bool of a segment."""
        return _equal(self.segment_map, self._segments[index]["id"])

    def rle_of(self, index: int) -> dict[str, Any]:
        """Return the run lengths of a segment."""
        return _run_lengths(self.mask_of(index), self._segments[index]["box"])

    def to_coco_panoptic(self, file_name: str | None = None, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Return the pair of COCO's panoptic format.

        Args:
            file_name: of the PNG; None: that of the image with the ending ``.png``.
            options: ``image_id`` and ``category_ids``, as `to_coco` takes them.

        Returns:
            An RGB picture whose colours are segment ids, R + 256 G + 256 * 256 B, to be saved as PNG. And a dict with
            ``image_id``, ``file_name`` and ``segments_info``.
        """
        from maskformer_ext.inference.results.formats import coco_panoptic

        return coco_panoptic(self, file_name, **options)

    def _numbered_info(self) -> DatasetInfo:
        labels = [segment["category_id"] for segment in self.segments_info]
        things = {segment["category_id"] for segment in self.segments_info if segment["isthing"]}
        return numbered(max(labels, default=-1) + 1, tuple(sorted(things)))

    def _list_segments(self) -> list[dict[str, Any]]:
        from maskformer_ext.pictures.segment_maps import boxes_and_areas

        most = max((segment["id"] for segment in self.segments_info), default=0)
        boxes, areas = boxes_and_areas(self.segment_map.cpu().numpy(), most + 1)
        return [
            {
                "id": segment["id"],
                **_category(segment["category_id"], self.info),
                "score": float(segment["score"]),
                "area": int(areas[segment["id"]]),
                "box": boxes[segment["id"]].tolist(),
            }
            for segment in self.segments_info
        ]


@dataclass(frozen=True, repr=False)
class InstanceResult(Result, Instances):
    """The instances of an image, which may overlap: the op's ``Instances``, with what the other results offer.

    A slice, a list, an index tensor or a boolean mask selects instances; a number is one of them as a ``Segment``.
    """

    task = "instance"
    context: Context = field(default=_NOWHERE, kw_only=True, compare=False)

    @classmethod
    def of(cls, instances: Instances, context: Context = _NOWHERE) -> InstanceResult:
        """Return the instances of the op, or of this kind with another context."""
        return cls(
            instances.scores,
            instances.labels,
            instances.boxes,
            instances.packed_masks,
            instances.size,
            context=context,
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Any) -> Any:
        """Select instances, or return one of them."""
        is_one = isinstance(index, int | np.integer) or (
            isinstance(index, Tensor) and index.dim() == 0 and index.dtype != torch.bool
        )
        if is_one:
            return super().__getitem__(int(index))
        return InstanceResult.of(Instances.__getitem__(self, index), self.context)

    def id_map(self, *, min_score: float = PICTURED_SCORE) -> np.ndarray:
        """Return 1 + the index of the best instance per pixel, (H, W) uint16, 0 = none."""
        from maskformer_ext.pictures.segment_maps import instance_owners

        return _sixteen_bits(instance_owners(self, min_score))

    def mask_of(self, index: int) -> np.ndarray:
        """Return the mask (H, W) bool of an instance."""
        packed = self.packed_masks[index].cpu().numpy()
        return np.unpackbits(packed, axis=-1, count=self.size[1], bitorder="little").view(bool)

    def rle_of(self, index: int) -> dict[str, Any]:
        """Return the run lengths of an instance."""
        x0, y0, x1, y1 = self.boxes[index].long().tolist()
        return _as_text(rle.encode(self.packed_masks[index].cpu().numpy(), (x0, y0, x1, y1), self.size))

    def describe(self) -> list[dict[str, Any]]:
        """Return what `predict` writes of each instance, with its run lengths as ``rle``."""
        return [{**segment, "rle": lengths} for segment, lengths in zip(super().describe(), self.to_rle(), strict=True)]

    def to_rle(self) -> list[dict[str, Any]]:
        """Return each mask as COCO run lengths, ``{"size": [H, W], "counts": str}``."""
        return [_as_text(lengths) for lengths in self.rle()]

    def _numbered_info(self) -> DatasetInfo:
        count = max(self.labels.tolist(), default=-1) + 1
        return numbered(count, tuple(range(count)))

    def _list_segments(self) -> list[dict[str, Any]]:
        labels, scores, boxes = (values.tolist() for values in (self.labels, self.scores, self.boxes.long()))
        areas = [_BITS_OF_BYTE[mask].sum(dtype=np.int64) for mask in self.packed_masks.cpu().numpy()]
        return [
            {
                "id": index + 1,
                **_category(label, self.info),
                "score": score,
                "area": int(area),
                "box": box,
            }
            for index, (label, score, area, box) in enumerate(zip(labels, scores, areas, boxes, strict=True))
        ]


def as_result(result: Any, **changes: Any) -> Result:
    """Return a result as one of these kinds; ``Instances`` of the op become an ``InstanceResult``.

    Args:
        result: of `segment`, `segment_tasks` or `instance_inference`.
        changes: fields of its ``Context`` to replace.
    """
    found = result if isinstance(result, Result) else InstanceResult.of(result)
    return found.with_context(**changes) if changes else found


def segments_of(result: Any, *, min_score: float = PICTURED_SCORE) -> tuple[np.ndarray, list[int]]:
    """Return a result of `segment` as what `pictures.segments` draws.

    Args:
        result: ``SemanticResult``, ``PanopticResult`` or ``Instances`` (where these overlap, the better score shows).
        min_score: instances below it own no pixel: average precision wants many guesses, pictures the likely ones.

    Returns:
        (H, W) int32 index of the segment that owns each pixel, -1 = void, and the class id of each segment.
    """
    from maskformer_ext.pictures.segment_maps import index_of, instance_owners, present_values

    if isinstance(result, Instances):
        return instance_owners(result, min_score) - np.int32(1), result.labels.tolist()
    if isinstance(result, SemanticResult):
        classes = result.class_map.cpu().numpy()
        present = present_values(classes)
        return index_of(classes, present), present
    ids = [segment["id"] for segment in result.segments_info]
    labels = [segment["category_id"] for segment in result.segments_info]
    return index_of(result.segment_map.cpu().numpy(), ids), labels


@lru_cache(maxsize=32)
def numbered(count: int, things: tuple[int, ...] = ()) -> DatasetInfo:
    """Describe classes of which only the number is known.

    Args:
        count: K.
        things: ids of those that are told apart.
    """
    from maskformer_ext.checkpoints.pretrained import numbered_classes

    return replace(numbered_classes(count), thing_classes=things)


def _category(label: int, info: DatasetInfo) -> dict[str, Any]:
    return {"category_id": label, "category": info.classes[label], "isthing": label in info.thing_classes}


def _equal(values: Tensor, wanted: int) -> np.ndarray:
    return (values == wanted).cpu().numpy()


def _run_lengths(mask: np.ndarray, box: list[int]) -> dict[str, Any]:
    packed = np.packbits(mask, axis=-1, bitorder="little")
    return _as_text(rle.encode(packed, (box[0], box[1], box[2], box[3]), (mask.shape[0], mask.shape[1])))


def _as_text(lengths: dict[str, Any]) -> dict[str, Any]:
    return {"size": list(lengths["size"]), "counts": lengths["counts"].decode("ascii")}


def _sixteen_bits(ids: np.ndarray) -> np.ndarray:
    if ids.max(initial=0) > _WIDEST_MAP:
        raise UserError(f"{ids.max()} segments are more than a 16-bit PNG can number")
    return ids.astype(np.uint16, copy=False)
