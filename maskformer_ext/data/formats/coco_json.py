"""Annotation files in COCO's JSON layouts, read once and checked, one record per image."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from maskformer_ext.data.listing import check_below, composed
from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import read_json
from maskformer_ext.media.decoding import EXTENSIONS

NUMBER, REAL, TEXT, LIST, LIST_OR_OBJECT = (int,), (int, float), (str,), (list,), (list, dict)
_ID = NUMBER + TEXT
_LARGEST = (1 << 63) - 1  # of 64-bit integers
_NAMES = {int: "a whole number", float: "a number", str: "text", list: "a list", dict: "an object"}


def read_annotations(path: Path) -> dict[str, Any]:
    """Read a COCO JSON file.

    Returns:
        Its content, which has the lists "images" and "annotations".

    Raises:
        UserError: if the file is missing, no JSON, or lacks one of them.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path} is missing: it holds the annotations of the data set.")
    content = read_json(path, "an annotation file in the COCO format")
    for key in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f'{path} has no list "{key}": expected annotations in the COCO format.')
    return content


def images_by_id(content: dict[str, Any], path: Path, folder: Path) -> dict[Any, dict[str, Any]]:
    """Return the records of the images by their id.

    Args:
        content: of the annotation file.
        path: the annotation file, for errors.
        folder: below which the images lie.

    Raises:
        UserError: if a record lacks what it must have, or an id or a file occurs twice. Also if a size is not positive,
            or a file name leads out of the folder.
    """
    images: dict[Any, dict[str, Any]] = {}
    owners: dict[PurePosixPath, Any] = {}
    for image in content["images"]:
        number, name = field(image, "id", "image", path), field(image, "file_name", "image", path, TEXT)
        height, width = (field(image, key, "image", path, NUMBER) for key in ("height", "width"))
        if number in images:
            raise UserError(f"{path}: the image id {printable(number)} occurs twice.")
        if not (height > 0 and width > 0):
            raise UserError(
                f"{path}: the image {printable(name)} must have a positive size, got {width}x{height} pixels."
            )
        check_below(name, folder)
        if (owner := owners.setdefault(_whole(name), number)) != number:
            raise UserError(
                f"{path}: the images {printable(owner)} and {printable(number)} have one file, {printable(name)}: "
                "results could not tell them apart."
            )
        images[number] = image
    return images


def sample_names(files: Sequence[str]) -> list[str]:
    """Return what the images are called: their paths without ending, or with it where two differ by nothing else.

    Args:
        files: of the images, below their folder.
    """
    whole = [_whole(file) for file in files]
    names = [str(path.with_suffix("")) if path.suffix.lower() in EXTENSIONS else str(path) for path in whole]
    for _ in range(2):  # a.jpg and a.png keep their endings, and then a.jpg.png has to keep its own
        counts = Counter(names)
        names = [name if counts[name] == 1 else str(path) for name, path in zip(names, whole, strict=True)]
    return names


def _whole(file: str) -> PurePosixPath:
    """Return the path of an image in one form, whatever its separators and accents."""
    return PurePosixPath(composed(file).replace("\\", "/"))


def field(record: Any, key: str, kind: str, path: Path, types: tuple[type, ...] = _ID, *, default: Any = None) -> Any:
    """Return a value that a record must have.

    Args:
        record: an entry of a list of the file.
        key: of the value.
        kind: what errors call the record.
        path: the file, for the error.
        types: what the value may be.
        default: the value where the record lacks it; None: it must have it.

    Raises:
        UserError: if it is missing or of another type; the sentence names the file and the record.
    """
    value = record.get(key, default) if isinstance(record, dict) else None
    if isinstance(value, types) and not (isinstance(value, float) and not math.isfinite(value)):
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise UserError(f'{path}: "{key}" of {kind} {_number(record)} is too large.')
        return value
    if value is None:
        raise UserError(f'{path}: {kind} {_number(record)} has no "{key}".')
    names = " or ".join(_NAMES[one] for one in types)
    raise UserError(f'{path}: "{key}" of {kind} {_number(record)} must be {names}, got {value!r:.40}.')


def _number(record: Any) -> str:
    """Return what an error calls a record."""
    return printable(record.get("id", record.get("image_id", "?")) if isinstance(record, dict) else record)[:40]
