"""What `segment` returns for an image: a class or a segment per pixel. Instances are those of the op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from maskformer_ext.ops.instance_inference import Instances

PICTURED_SCORE = 0.5
"""Instances of a lower score are not drawn."""


@dataclass(frozen=True)
class SemanticResult:
    """The class of every pixel.

    Attributes:
        class_map: (H, W) int64 class ids.
    """

    class_map: Tensor


@dataclass(frozen=True)
class PanopticResult:
    """The segment of every pixel.

    Attributes:
        segment_map: (H, W) int32 segment ids from 1, 0 = void.
        segments_info: for each segment ``id``, ``category_id``, ``isthing``, ``score`` and ``area`` in pixels.
    """

    segment_map: Tensor
    segments_info: list[dict[str, Any]]


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
