"""LabelMe's JSON files, one per image, which X-AnyLabeling writes too: shapes with a label, and the image itself."""

from __future__ import annotations

import base64
import binascii
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import read_json, reading

IGNORE, BACKGROUND = "__ignore__", "_background_"
"""Labels that LabelMe's own converters treat apart: void, and the class of pixels outside of every shape."""

_WHAT = "a LabelMe file"
_AREAS = ("polygon", "rectangle", "circle", "rotation", "mask")
_NO_AREA = ("line", "linestrip", "point", "points")
_CORNERS = 64  # of the polygon that stands for a circle
_BEYOND = 0.1  # of the image's side: a shape may reach over the border so far
_FAR = 1e9


@dataclass(frozen=True)
class Shape:
    """An area of a LabelMe file.

    Attributes:
        number: its place in the file, from 1.
        label: what it is called.
        polygon: [x, y, x, y, ...] in pixels; empty for a mask.
        group: shapes of one group and label are one object; None: it is one by itself.
        mask: (h, w) bool, where the shape is a mask.
        corner: row and column of the mask's first pixel.
    """

    number: int
    label: str
    polygon: list[float]
    group: int | str | None = None
    mask: np.ndarray | None = None
    corner: tuple[int, int] = (0, 0)


@dataclass
class LabelMeFile:
    """What a LabelMe file says.

    Attributes:
        image_path: of the image, as written; "" where it is not given.
        size: height and width that it gives; None: it does not.
        shapes: its areas.
        without_area: how many shapes of each type have no area, and are left out.
        beyond: numbers of the shapes that reach over the border of the image.
        embedded: whether the file holds the image itself.
    """

    image_path: str
    size: tuple[int, int] | None
    shapes: list[Shape] = field(default_factory=list)
    without_area: Counter[str] = field(default_factory=Counter)
    beyond: list[int] = field(default_factory=list)
    embedded: bool = False


def read_labelme(path: Path, *, masks: bool = True) -> LabelMeFile:
    """Read a LabelMe file.

    Args:
        path: the JSON file.
        masks: decode shapes that are masks; False: they have an empty one.

    Raises:
        UserError: if it is no JSON or a shape is not what it must be; the sentence names file and shape.
    """
    content = read_json(path, _WHAT)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise UserError(f'{path} has no list "shapes": expected a LabelMe file.')
    with reading(path, _WHAT):
        found = LabelMeFile(str(content.get("imagePath") or "").replace("\\", "/"), _size(content, path))
        found.embedded = bool(content.get("imageData"))
        for number, shape in enumerate(content["shapes"], start=1):
            _add(shape, number, found, path, masks)
    return found


def embedded_image(path: Path) -> bytes:
    """Return the file of the image that a LabelMe file holds.

    Raises:
        UserError: if it holds none, or text that is no file.
    """
    try:
        return base64.b64decode(read_json(path, _WHAT)["imageData"], validate=False)
    except (binascii.Error, KeyError, TypeError, ValueError):
        raise UserError(f'{path}: "imageData" holds no image.') from None


def _add(shape: Any, number: int, found: LabelMeFile, path: Path, masks: bool) -> None:
    where = f"{path}, shape {number}"
    if not isinstance(shape, dict):
        raise UserError(f"{where}: must be an object with a label and points.")
    label, kind = shape.get("label"), shape.get("shape_type") or "polygon"
    if not isinstance(label, str) or not label.strip():
        raise UserError(f"{where}: has no label: name it in LabelMe.")
    if kind in _NO_AREA:
        found.without_area[kind] += 1
        return
    if kind not in _AREAS:
        raise UserError(
            f"{where}: the shape type {printable(kind)!r:.40} is none of {', '.join(_AREAS)}, which have an area."
        )
    group = shape.get("group_id")
    points = _points(shape.get("points"), kind, where)
    if kind == "mask":
        mask = _mask(shape, where) if masks else np.zeros((0, 0), bool)
        corner = (round(points[0][1]), round(points[0][0]))
        found.shapes.append(Shape(number, printable(label), [], group, mask, corner))
        return
    polygon = [value for point in _outline(kind, points) for value in point]
    if _reaches_over(polygon, found.size, where):
        found.beyond.append(number)
    found.shapes.append(Shape(number, printable(label), polygon, group))


def _points(points: Any, kind: str, where: str) -> list[tuple[float, float]]:
    least = {"polygon": 3, "rotation": 3}.get(kind, 2)
    valid = isinstance(points, list) and all(
        isinstance(point, list)
        and len(point) == 2
        and all(type(value) in (int, float) and abs(value) < _FAR for value in point)  # NaN is no less
        for point in points
    )
    if not valid or len(points) < least:
        got = f"{len(points)} points" if valid else printable(points)[:40]
        raise UserError(f"{where}: a {kind} must have {least} points [x, y] or more, got {got}.")
    return [(float(x), float(y)) for x, y in points]


def _outline(kind: str, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of a shape."""
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        return [(left, top), (right, top), (right, bottom), (left, bottom)]
    if kind == "circle":
        (x, y), edge = points[0], points[1]
        radius = math.dist((x, y), edge)
        angles = [2 * math.pi * corner / _CORNERS for corner in range(_CORNERS)]
        return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
    return points


def _reaches_over(polygon: list[float], size: tuple[int, int] | None, where: str) -> bool:
    if size is None:
        return False
    height, width = size
    over = False
    for values, side, what in ((polygon[::2], width, "x"), (polygon[1::2], height, "y")):
        inside = [min(max(value, 0), side) for value in values]
        if max(inside) - min(inside) <= 0 and max(values) - min(values) > 0:
            raise UserError(
                f"{where}: lies outside its image: {what} is {values[0]:g}, but the image has {side} pixels."
            )
        if min(values) < -_BEYOND * side or max(values) > (1 + _BEYOND) * side:
            value = min(values) if min(values) < -_BEYOND * side else max(values)
            raise UserError(
                f"{where}: reaches far out of its image: {what} is {value:g}, but the image has {side} pixels."
            )
        over |= min(values) < -1 or max(values) > side + 1
    return over


def _mask(shape: dict[str, Any], where: str) -> np.ndarray:
    """Return the pixels of a mask, which is a PNG file in base64."""
    from maskformer_ext.media.decoding import open_image  # brings Pillow, which recognition does not need
    from maskformer_ext.media.in_memory import as_file

    try:
        data = base64.b64decode(shape.get("mask") or "", validate=False)
    except (binascii.Error, TypeError, ValueError):
        raise UserError(f'{where}: "mask" holds no PNG image.') from None
    with as_file(data, f'{where}: "mask"') as file, open_image(file, "a PNG image") as image:
        return np.array(image.convert("L")) > 0


def _size(content: dict[str, Any], path: Path) -> tuple[int, int] | None:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if height is None or width is None:
        return None
    if type(height) is not int or type(width) is not int or height < 1 or width < 1:
        raise UserError(f'{path}: "imageHeight" and "imageWidth" must be pixels, got {height!r:.20} and {width!r:.20}.')
    return height, width
