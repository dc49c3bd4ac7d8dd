"""What `segment` returns for an image: a class or a segment per pixel. Instances are those of the op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


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
