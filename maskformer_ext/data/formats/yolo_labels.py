"""Label files of YOLO-seg: a line ``class x y x y ...`` for each object, in shares of the image's width and height."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import read_text

_BORDER = 1e-3  # what rounding puts outside of the image is not worth a word
_BEYOND = 0.1  # of the image's side: an outline may reach over the border so far
_BOX = 4  # numbers of a line that gives a box only: centre and size


@dataclass
class YoloLabels:
    """What a label file says.

    Attributes:
        objects: line, class and polygon [x, y, x, y, ...] of each object; the polygon in shares of width and height.
        boxes: lines of objects that have a box and no polygon.
        beyond: lines whose polygon reaches over the border of the image.
    """

    objects: list[tuple[int, int, list[float]]] = field(default_factory=list)
    boxes: list[int] = field(default_factory=list)
    beyond: list[int] = field(default_factory=list)


def read_yolo(path: Path, classes: int) -> YoloLabels:
    """Read a label file; an empty one says that the image has no object.

    Args:
        path: the text file.
        classes: how many there are.

    Raises:
        UserError: for a line that is not what it must be; the sentence names file and line.
    """
    labels = YoloLabels()
    for number, line in enumerate(read_text(path, "a YOLO label file").splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        where = f"{path}, line {number}"
        values = [_number(part, where) for part in parts]
        label = _label(parts[0], values[0], classes, where)
        polygon = values[1:]
        if len(polygon) == _BOX:
            labels.boxes.append(number)
            continue
        if len(polygon) % 2 or len(polygon) < _BOX + 2:
            hint = " Five are a box and its score, which predictions have." if len(polygon) == _BOX + 1 else ""
            raise UserError(
                f"{where}: expected x and y of three points or more after the class, got {len(polygon)} numbers.{hint}"
            )
        _check_inside(polygon, labels.beyond, number, where)
        labels.objects.append((number, label, polygon))
    return labels


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: {printable(text)!r:.40} is no number: expected the class and then x y x y ...")
    return value


def _label(text: str, value: float, classes: int, where: str) -> int:
    if value != int(value) or value < 0:
        raise UserError(f"{where}: the class must be a whole number from 0, got {printable(text)!r:.40}.")
    if value >= classes:
        raise UserError(
            f"{where}: the class {int(value)} has no name, as the names end with that of {classes - 1}. "
            "Correct the line, or add the name."
        )
    return int(value)


def _check_inside(polygon: list[float], beyond: list[int], number: int, where: str) -> None:
    low, high = min(polygon), max(polygon)
    if low < -_BEYOND or high > 1 + _BEYOND:
        value = low if low < -_BEYOND else high
        kind = " These look like pixels: divide x by the image's width and y by its height." if high > 2 else ""
        raise UserError(f"{where}: the polygon lies outside the image: {value:g} is not within 0 and 1.{kind}")
    if low < -_BORDER or high > 1 + _BORDER:
        beyond.append(number)
