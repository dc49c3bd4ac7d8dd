"""Write what a model sees in an image: an overlay, a map of ids and a description of the segments."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.inference.results import PICTURED_SCORE, as_result
from maskformer_ext.inference.results.drawing import overlay_shape
from maskformer_ext.inference.results.saving import write_result
from maskformer_ext.inference.results.summary import summarize
from maskformer_ext.pictures.sizes import LONG_SIDE, resize_image


def overlay_ground(rgb: np.ndarray, overlay_size: int = LONG_SIDE) -> np.ndarray:
    """Bring an image (H, W, 3) uint8 to the size at which its overlay is drawn.

    Args:
        rgb: the image, or what this function made of it.
        overlay_size: longer side of the overlay in pixels at most; 0 = at least the image's size.
    """
    return resize_image(rgb, overlay_shape(rgb.shape[0], rgb.shape[1], overlay_size))


def write_prediction(
    result: Any,
    ground: np.ndarray | Tensor,
    output: Path,
    name: str,
    *,
    source: str,
    task: str,
    info: DatasetInfo,
    names: bool = True,
    legend: bool = True,
    min_score: float = PICTURED_SCORE,
    overlay_size: int = LONG_SIDE,
) -> str:
    """Write ``overlays/NAME.png``, ``ids/NAME.png`` and, last, ``json/NAME.json`` of one image.

    Args:
        result: what `segment` found in the image.
        ground: the image, (3, H, W) uint8 as a tensor or (H, W, 3) uint8 as an array, or what `overlay_ground` made.
        output: the folder for the results.
        name: of the results, without ending; may hold folders.
        source: what the description calls the image.
        task: "semantic", "instance" or "panoptic".
        info: names, colours and things of the classes.
        names: write class names on the overlay.
        legend: put the classes below the overlay.
        min_score: overlay and ids show instances of at least this score; the description has all.
        overlay_size: longer side of the overlay in pixels at most, without the legend, as in `overlay_ground`.

    Returns:
        In a few words what was found, as `summarize` says it.

    Raises:
        UserError: if a file cannot be written, or there are more segments than a map of ids can number.
    """
    found = as_result(result, info=info)
    segments = write_result(
        found,
        output,
        name,
        source=source,
        image=ground,
        names=names,
        legend=legend,
        min_score=min_score,
        longest_side=overlay_size,
    )
    return summarize(segments, task, math.prod(found.size), min_score)
