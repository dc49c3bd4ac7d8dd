"""Results of `segment` on a painted image, whose truth is known pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from paint import THINGS, PaintModel, paint, scene

from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.inference import segment

PAINTED = DatasetInfo(
    "painted", ("ground", "box", "tile"), ((90, 90, 90), (250, 0, 0), (0, 0, 250)), thing_classes=THINGS
)
TASKS = ("semantic", "panoptic", "instance")


def painted(
    task: str, size: tuple[int, int] = (40, 56), *, things: int = 6, image: Any = None, **options: Any
) -> tuple[Any, np.ndarray, list[int]]:
    """Segment a scene: the result, the number of the segment of each pixel, and the class of each number from 1 on.

    Args:
        task: of `segment`.
        size: of the scene.
        things: in it.
        image: makes what `segment` is given of the painted array; None: the array itself.
        options: of `segment`.
    """
    segments, labels = scene(size, things=things)
    array = paint(segments, labels)
    given = array if image is None else image(array)
    result = segment(PaintModel(3), given, task=task, **{"thing_classes": THINGS, "info": PAINTED, **options})
    return result, segments, labels
