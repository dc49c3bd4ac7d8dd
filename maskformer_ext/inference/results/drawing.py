"""Overlays: what a model sees in an image, drawn over it."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.inference.results.context import rgb_of
from maskformer_ext.pictures.segment_maps import index_of
from maskformer_ext.pictures.segments import add_legend, draw_segments
from maskformer_ext.pictures.sizes import resize_image, resize_map, shown_size

if TYPE_CHECKING:
    from maskformer_ext.inference.results.base import Result

_SHORT_SIDE = 512  # pixels, to which the shorter side of small images is enlarged


def overlay_shape(height: int, width: int, longest_side: int) -> tuple[int, int]:
    """Return the height and width at which the overlay of an image is drawn, without its legend.

    Args:
        height: of the image.
        width: of the image.
        longest_side: in pixels at most; 0 = at least the image's size.
    """
    return shown_size(height, width, short_side=_SHORT_SIDE, long_side=longest_side)


def draw_result(
    result: Result,
    image: Any,
    *,
    names: bool,
    legend: bool,
    min_score: float,
    opacity: float,
    longest_side: int,
    ids: np.ndarray | None = None,
    segments: Sequence[dict[str, Any]] | None = None,
) -> Image.Image:
    """Draw a result; arguments and errors are those of `Result.plot`.

    Args:
        ids: what ``id_map`` returned for ``min_score``, where that is known already.
        segments: those of ``describe_briefly`` that are drawn; None: all.
    """
    check_options(min_score, opacity, longest_side)
    if image is None:
        image = result.image
    if image is None:
        raise ValueError("plot: this result does not know its image: give image=")
    ids = result.id_map(min_score=min_score) if ids is None else ids
    size = overlay_shape(ids.shape[0], ids.shape[1], longest_side)
    info: DatasetInfo = result.info
    segments = result.describe_briefly() if segments is None else segments
    labels = [segment["category_id"] for segment in segments]
    shown = labels
    if result.task == "instance":
        shown = [segment["category_id"] for segment in segments if segment["score"] >= min_score]
    owners = index_of(resize_map(ids, size), [segment["id"] for segment in segments])
    overlay = draw_segments(resize_image(rgb_of(image), size), owners, labels, info, names=names, opacity=opacity)
    return add_legend(overlay, shown, info) if legend else overlay


def check_options(min_score: float, opacity: float, longest_side: int) -> None:
    """Raise a ValueError that names an option of `plot` which is out of range."""
    if not 0 <= opacity <= 1:
        raise ValueError(f"plot: alpha must lie between 0 and 1, got {opacity}")
    if not 0 <= min_score <= 1:
        raise ValueError(f"plot: min_score must lie between 0 and 1, got {min_score}")
    if isinstance(longest_side, bool) or not isinstance(longest_side, Integral) or longest_side < 0:
        raise ValueError(f"plot: size must be a number of pixels, or 0 for no limit, got {longest_side!r}")
