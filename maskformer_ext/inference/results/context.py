"""What `segment` attaches to a result: the classes, the image and the times."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.inference.results.times import Laps, Times
from maskformer_ext.media.images import to_pixels

PICTURED_SCORE = 0.5
"""Instances of a lower score are neither drawn nor counted."""


@dataclass(frozen=True)
class Context:
    """Where a result comes from.

    Attributes:
        info: the classes; its things are those that were told apart. None: not known.
        image: what `segment` was given, not a copy of it; of a file its path, which is read again when needed.
        name: what files of the result are called, without ending.
        times: how long it took, or what that follows from; None: not measured.
    """

    info: DatasetInfo | None = None
    image: Any = None
    name: str = "image"
    times: Times | Laps | None = None


def name_of(image: Any, index: int | None) -> str:
    """Return what results of an image are called: as its file, or ``image`` with its place in a list.

    Args:
        image: as `segment` takes it.
        index: its place in a list; None: it is alone.
    """
    file = image if isinstance(image, str | os.PathLike) else getattr(image, "filename", "")
    if file:
        return Path(file).stem
    return "image" if index is None else f"image_{index:06d}"


def source_of(context: Context) -> str:
    """Return what descriptions call the image: its path where there is one, else its name."""
    image = context.image
    file = image if isinstance(image, str | os.PathLike) else getattr(image, "filename", "")
    return str(file) if file else context.name


def rgb_of(image: Any) -> np.ndarray:
    """Return an image in any form that `segment` takes as (H, W, 3) uint8; errors as `media.images.to_pixels`."""
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.dtype == np.uint8 and image.shape[2] == 3:
        return image  # as it lies
    return to_pixels(image).permute(1, 2, 0).cpu().numpy()
