"""Names and colours of classes: the classes file of a folder data set, and a palette where it gives no colours."""

from __future__ import annotations

import colorsys
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskformer_ext.config import DataConfig
from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import read_json, read_text

Color = tuple[int, int, int]

_LARGEST = 65535  # number in a label image
_CVAT = re.compile(r"([^:]+):(?:(\d+),(\d+),(\d+))?:[^:]*:[^:]*")  # name:red,green,blue:parts:actions
_KEYS = {"classes", "colors", "things", "stuff", "background", "id_divisor", "ignore_label", "ignore_index", "label"}
_KEYS |= {"values"}
_FILES = ("classes.json", "classes.txt", "labelmap.txt")
_ROBOFLOW = "_classes.csv"  # beside the images of each split: a row with value and name of each class


@dataclass(frozen=True)
class ClassTable:
    """What a classes file says.

    Attributes:
        classes: name of each class; the index is the class id.
        colors: RGB of each class.
        things: ids of the thing classes.
        background: id of the class that the value 0 of an instance label stands for; None: void.
        id_divisor: instance labels hold class number x divisor + instance number; 0: plain instance ids.
        ignore_label: the void value of semantic labels, where the file gives one.
        own_colors: whether the file gives the colours, so that a colour image can be a label image.
        values: the number of each class in semantic label images; (): the class ids.
    """

    classes: tuple[str, ...]
    colors: tuple[Color, ...]
    things: tuple[int, ...] = ()
    background: int | None = None
    id_divisor: int = 0
    ignore_label: int | None = None
    own_colors: bool = False
    values: tuple[int, ...] = ()


def color_number(color: Sequence[int]) -> int:
    """Return an RGB colour as one number, red first: how label images in colours are counted."""
    return color[0] | color[1] << 8 | color[2] << 16


def color_of(number: int) -> Color:
    """Return the RGB colour of a `color_number`."""
    return number & 255, number >> 8 & 255, number >> 16


def void_id(value: int, count: int) -> int:
    """Return what stands for void in maps of class ids, given the void value of label images.

    Class ids count from 0, so that 0, which means void in label images that count from 1, cannot stand for it.

    Args:
        value: of void in label images.
        count: of classes.
    """
    return value if value else (255 if count <= 255 else _LARGEST)


def palette(count: int) -> tuple[Color, ...]:
    """Return ``count`` RGB colours, neighbours far apart in hue."""
    colors = []
    for index in range(count):
        hue = (index * 0.61803398875) % 1.0  # the golden ratio spreads any number of hues evenly
        value, saturation = ((1.0, 0.85), (0.75, 0.9), (0.9, 0.5))[index % 3]
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colors)


def unique_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Return names of classes as any terminal shows them.

    Args:
        names: of the classes, in the order of their ids.
        where: what errors call their file.

    Raises:
        UserError: if there is none, or one is empty or occurs twice.
    """
    shown = [printable(name) for name in names]
    if not shown:
        raise UserError(f"{where} names no class.")
    if "" in shown:
        raise UserError(f"{where} holds an empty name.")
    if len(set(shown)) < len(shown):
        twice = next(name for index, name in enumerate(shown) if name in shown[:index])
        raise UserError(f"{where} names the class {twice!r} twice.")
    return tuple(shown)


def configured_classes(config: DataConfig, root: Path) -> ClassTable:
    """Return what the classes file says that the configuration names, or that lies in the root.

    Raises:
        UserError: as `read_classes_file`.
    """
    return read_classes_file(find_classes_file(config, root) or root / _FILES[0])


def find_classes_file(config: DataConfig, root: Path) -> Path | None:
    """Return the classes file that the configuration names, or that lies in the root; None where there is none."""
    if config.classes_file:
        return root / Path(config.classes_file).expanduser()
    places = [root / name for name in _FILES]
    if config.name not in ("yolo", "labelme"):
        places += [root / folder / _ROBOFLOW for folder in ("", "train")]
    return next((path for path in places if path.is_file()), None)


def read_classes_file(path: Path) -> ClassTable:
    """Read a classes file: JSON, plain text with one name per line, or the ``labelmap.txt`` that CVAT writes.

    Args:
        path: a ``.json`` file with "classes" (or "things" and "stuff"), and with "colors", "background", "id_divisor",
            "values" and "ignore_label" as needed. A ``.csv`` file has a row "value, name" for each class, as Roboflow
            writes it. Any other file is text. There, lines that begin with "#" are comments.

    Raises:
        UserError: if the file is missing or does not say what it must; the sentence names the file and the key.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path} is missing: name the classes there, as docs/data.md shows, or set data.classes_file.")
    if path.suffix.lower() == ".csv":
        content = _rows(path, read_text(path, "a valid classes file"))
    elif path.suffix.lower() == ".json":
        content = read_json(path, "a valid classes file")
    else:
        content = _lines(path, read_text(path, "a valid classes file"))
    if isinstance(content, list):
        names = [name.strip() if isinstance(name, str) else name for name in content]
        content = {"classes": [name for name in names if name != ""]}
    if not isinstance(content, dict):
        raise UserError(f'{path} must hold a JSON object with "classes", got {type(content).__name__}.')
    unknown = sorted(set(content) - _KEYS)
    if unknown:
        raise UserError(
            f"{path}: unknown key {printable(unknown[0])!r:.60}; valid keys are {', '.join(sorted(_KEYS))}."
        )
    return _parse(path, content)


def _rows(path: Path, text: str) -> dict[str, Any]:
    """Return the values and names of a table whose first row is a heading."""
    rows = [[part.strip() for part in line.split(",", 1)] for line in text.splitlines() if line.strip()]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != 2 or not row[0].isdecimal():
            wrong = printable(", ".join(row))
            raise UserError(f"{path}, row {number}: expected a value and a name, as in 1, cat, got {wrong!r:.60}.")
    return {"classes": [name for _, name in rows[1:]], "values": [int(value) for value, _ in rows[1:]]}


def _lines(path: Path, text: str) -> dict[str, Any]:
    """Return the names of a text file, and the colours where it is CVAT's."""
    stripped = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, line) for number, line in stripped if line and not line.startswith("#")]
    rows = [_CVAT.fullmatch(line) for _, line in lines]
    named_so = path.name.lower() == _FILES[-1] and any("::" in line for _, line in lines)
    if not lines or not (rows[0] or named_so):
        return {"classes": [line for _, line in lines]}
    if None in rows:
        number, wrong = lines[rows.index(None)]
        raise UserError(
            f"{path}, line {number}: {printable(wrong)!r:.60} must be name:red,green,blue:parts:actions, as in "
            "cat:255,0,0::."
        )
    groups = [row.groups() for row in rows if row is not None]
    given = any(red is not None for _, red, _, _ in groups)
    colors = [
        list(spare) if red is None else [int(red), int(green), int(blue)]
        for (_, red, green, blue), spare in zip(groups, palette(len(groups)), strict=True)
    ]
    return {"classes": [name.strip() for name, *_ in groups], "colors": colors if given else None}


def _parse(path: Path, content: dict[str, Any]) -> ClassTable:
    given = {key: _names(path, content, key) for key in ("classes", "things", "stuff")}
    classes = given["classes"] or given["things"] + given["stuff"]
    if not classes:
        raise UserError(f'{path} names no class: give "classes", or "things" and "stuff".')
    unique_names(classes, str(path))
    background = content.get("background")
    if background is not None and not isinstance(background, str):
        raise UserError(f'{path}: "background" must be a name, got {background!r:.40}.')
    background = None if background is None else printable(background)
    for key, names in (*given.items(), ("background", [background] if background is not None else [])):
        strange = [name for name in names if name not in classes]
        if strange:
            raise UserError(f'{path}: "{key}" names {strange[0]!r}, which is not one of "classes".')
    things = given["things"] if "things" in content else [name for name in classes if name not in given["stuff"]]
    stuff = [name for name in classes if name not in things]
    id_divisor = _integer(path, content, "id_divisor", 0)
    if background is None and not id_divisor and len(stuff) == 1:
        background = stuff[0]
    if background in things:
        raise UserError(f'{path}: "background" must be a stuff class, got {background!r}, which is a thing.')
    return ClassTable(
        classes=tuple(classes),
        colors=_colors(path, content.get("colors"), len(classes)),
        things=tuple(classes.index(name) for name in things),
        background=None if background is None else classes.index(background),
        id_divisor=id_divisor,
        ignore_label=_integer(path, content, "ignore_label", content.get("ignore_index")),
        own_colors=content.get("colors") is not None,
        values=_values(path, content.get("values"), len(classes)),
    )


def _values(path: Path, values: Any, count: int) -> tuple[int, ...]:
    if values is None:
        return ()
    valid = isinstance(values, list) and all(type(value) is int and 0 <= value <= _LARGEST for value in values)
    if not valid or len(set(values)) != count or len(values) != count:
        raise UserError(
            f'{path}: "values" must be a list of {count} different whole numbers within 0 and {_LARGEST}, one per '
            "class."
        )
    return tuple(values)


def _names(path: Path, content: dict[str, Any], key: str) -> list[str]:
    names = content.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f'{path}: "{key}" must be a list of names.')
    names = [printable(name) for name in names]
    if "" in names:
        raise UserError(f'{path}: "{key}" holds an empty name.')
    return names


def _integer(path: Path, content: dict[str, Any], key: str, default: int | None) -> Any:
    value = content.get(key, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST):
        raise UserError(f'{path}: "{key}" must be a whole number within 0 and {_LARGEST}, got {value!r:.40}.')
    return value


def _colors(path: Path, colors: Any, count: int) -> tuple[Color, ...]:
    if colors is None:
        return palette(count)
    valid = isinstance(colors, list) and len(colors) == count
    if not valid or not all(
        isinstance(color, list) and len(color) == 3 and all(isinstance(c, int) and 0 <= c <= 255 for c in color)
        for color in colors
    ):
        raise UserError(f'{path}: "colors" must be a list of {count} [red, green, blue] in 0..255, one per class.')
    return tuple((red, green, blue) for red, green, blue in colors)
