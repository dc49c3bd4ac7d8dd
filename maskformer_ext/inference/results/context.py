"""What `segment` attaches to a result: the classes, the image and the times."""

from __future__ import annotations

import os
from collections.abc import Callable
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
    if file := _file_of(image):
        return Path(file).stem
    return "image" if index is None else f"image_{index:06d}"


def source_of(context: Context, name: str) -> str:
    """Return what descriptions call the image: its path where there is one, else the name of its files."""
    return _file_of(context.image) or name


def name_among(context: Context, is_taken: Callable[[str], bool]) -> str:
    """Return what files of a result are called in a folder that may hold others.

    An image that has a file is called as the file. Of one that has none nobody knows whether it is the same as before.
    So nothing is overwritten: it gets a number that is free.

    Args:
        context: of the result.
        is_taken: whether the folder holds a result of a name.
    """
    if _file_of(context.image) or not is_taken(context.name):
        return context.name
    stem, taken, free = context.name.partition("_")[0], 0, 1
    while is_taken(f"{stem}_{free:06d}"):
        taken, free = free, 2 * free
    while free - taken > 1:  # the end of the numbers in use, without a look at each of them
        middle = (taken + free) // 2
        taken, free = (middle, free) if is_taken(f"{stem}_{middle:06d}") else (taken, middle)
    return f"{stem}_{free:06d}"


def _file_of(image: Any) -> str:
    file = image if isinstance(image, str | os.PathLike) else getattr(image, "filename", "")
    return str(file) if file else ""


def rgb_of(image: Any) -> np.ndarray:
    """Return an image in any form that `segment` takes as (H, W, 3) uint8; errors as `media.images.to_pixels`."""
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.dtype == np.uint8 and image.shape[2] == 3:
        return image  # as it lies
    return to_pixels(image).permute(1, 2, 0).cpu().numpy()
