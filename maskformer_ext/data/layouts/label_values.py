"""What the numbers of label images mean where no file says so: a look at some of them, without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from maskformer_ext.data.classes import ClassTable, Color, color_of, palette
from maskformer_ext.errors import UserError
from maskformer_ext.files import state_of

LOOKED = 64  # label images, spread over all
_MOST = 32  # classes that are named by their values
_FEW = 8  # of them, where numbers between are missing: others are likely to follow
_MOST_BYTE = 255
_FEW_IDS = 12  # instances per image at most: their ids could as well be classes
_MASK = 255


@dataclass(frozen=True)
class Values:
    """What some label images hold.

    Attributes:
        numbers: the different numbers of each image of one channel.
        colors: the different colours of each image of three channels, as `color_number` counts.
    """

    numbers: tuple[frozenset[int], ...]
    colors: tuple[frozenset[int], ...]

    @property
    def all_numbers(self) -> list[int]:
        """The numbers of all images, in order."""
        return sorted(frozenset().union(*self.numbers))

    @property
    def all_colors(self) -> list[int]:
        """The colours of all images, in order."""
        return sorted(frozenset().union(*self.colors))

    @property
    def count(self) -> int:
        """How many images were looked at."""
        return len(self.numbers) + len(self.colors)


def look_at_values(paths: Sequence[Path]) -> Values:
    """Return what some of the label images hold, always the same ones.

    Args:
        paths: of all label images, in order.

    Raises:
        UserError: if one of them cannot be read.
    """
    step = max(1, len(paths) // LOOKED)
    return _look(tuple(map(state_of, paths[::step][:LOOKED])))


@lru_cache(maxsize=4)
def _look(states: tuple[tuple[Path, int, int], ...]) -> Values:
    from maskformer_ext.data.formats.labels import read_color_ids, read_label  # brings Pillow
    from maskformer_ext.media.decoding import open_image

    numbers, colors = [], []
    for path, _, _ in states:
        with open_image(path, "a label image") as image:
            colored = image.mode == "RGB"
        if colored:
            colors.append(frozenset(np.unique(read_color_ids(path)).tolist()))
        else:
            numbers.append(frozenset(np.flatnonzero(np.bincount(read_label(path).ravel())).tolist()))
    return Values(tuple(numbers), tuple(colors))


def tells_instances_apart(values: Values) -> bool | None:
    """Return whether numbers are instance ids, False where they are classes, None where they could be both."""
    if values.colors:
        return False
    inside = [sorted(found - {0, _MASK}) for found in values.numbers]
    every = frozenset().union(*inside)
    if len(every) <= 1:
        return False
    if max(every) > _MOST_BYTE:
        return True
    consecutive = all(found == list(range(1, len(found) + 1)) for found in inside)
    most, counts = max(map(len, inside)), {len(found) for found in inside}
    if consecutive and len(counts) > 2 and len(inside) > 2:
        return True if most > _FEW_IDS else None
    return None if len(every) > _MOST and max(map(len, inside)) < len(every) / 2 else False


def derived_classes(values: Values, where: str) -> ClassTable:
    """Return classes that are named by the values of their pixels.

    Two values, one of them 0, are background and object. The value 255 is void beside small numbers.

    Args:
        values: what the label images hold.
        where: the folder of the labels, for errors.

    Raises:
        UserError: if there are too many values, or one only; it shows the classes file to write.
    """
    if values.colors:
        return _of_colors(values, where)
    found = values.all_numbers
    classes = [value for value in found if value != _MASK or not _is_void(found)]
    if len(classes) < 2:
        raise UserError(
            f"{values.count} label images of {where} hold {_listed(found)} alone, so there is nothing to tell apart: "
            f"{_advice(['background', 'object'], [0, 1])}"
        )
    sparse = classes[-1] > 2 * len(classes)
    if values.count == LOOKED and not sparse:  # rare classes may be in those that were not looked at
        classes = list(range(classes[0], classes[-1] + 1))
    names = _names(classes, "class_{}")
    if len(classes) > _MOST or (sparse and len(classes) > _FEW):
        raise UserError(
            f"{values.count} label images of {where} hold {len(classes)} different values, {_listed(classes)}, and no "
            f"file names the classes: {_advice(names[:3], classes[:3])} If 0 means unlabelled, set data.ignore_label=0 "
            "and name the classes from the value 1 on, without values."
        )
    return ClassTable(tuple(names), palette(len(names)), values=tuple(classes))


def described_classes(table: ClassTable) -> str:
    """Return in words how derived classes were named."""
    if table.own_colors:
        return f"its {len(table.classes)} classes are named by their colours, as no classes file is there"
    parts = [f"{value} = {name}" for value, name in zip(table.values, table.classes, strict=True)]
    more = f" and {len(parts) - 6} more" if len(parts) > 6 else ""
    return f"classes by their values, as no classes file is there: {', '.join(parts[:6])}{more}"


def _is_void(found: Sequence[int]) -> bool:
    """Return whether 255 is void: beside small numbers, while 0 and 255 are a mask, and 0, 85, 170, 255 are classes."""
    others = [value for value in found if value != _MASK]
    return len(others) > 1 and max(others) < 2 * len(others) + _MOST


def _names(classes: Sequence[int], form: str) -> list[str]:
    if len(classes) == 2 and classes[0] == 0:
        return ["background", "object"]
    return [form.format(value) for value in classes]


def _of_colors(values: Values, where: str) -> ClassTable:
    found = values.all_colors
    colors: list[Color] = list(map(color_of, found))
    names = _names([red << 16 | green << 8 | blue for red, green, blue in colors], "color_{:06x}")
    example = json.dumps({"classes": ["background", "object"], "colors": [[0, 0, 0], [255, 255, 255]]})
    if len(found) > _MOST or len(found) < 2 or values.numbers:
        other = f" and {len(values.numbers)} others numbers" if values.numbers else ""
        raise UserError(
            f"{len(values.colors)} label images of {where} hold {len(found)} different colours{other}, and no file "
            f"says which colour is which class: write a classes.json such as {example}."
        )
    return ClassTable(tuple(names), tuple(colors), own_colors=True)


def _advice(names: Sequence[str], values: Sequence[int]) -> str:
    content = json.dumps({"classes": list(names), "values": list(values)})
    return f"write a classes.json such as {content} with a name for each value."


def _listed(values: Sequence[int]) -> str:
    if len(values) == 1:
        return f"the value {values[0]}"
    shown = ", ".join(map(str, values[:8]))
    return f"{shown} to {values[-1]}" if len(values) > 8 else f"the values {shown}"
