"""Annotation files in COCO's JSON layouts, read once and checked, one record an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maskformer_ext.errors import UserError

NUMBER, REAL, TEXT, LIST, LIST_OR_OBJECT = (int,), (int, float), (str,), (list,), (list, dict)
_ID = NUMBER + TEXT
_NAMES = {int: "a whole number", float: "a number", str: "text", list: "a list", dict: "an object"}


def read_annotations(path: Path) -> dict[str, Any]:
    """Read a COCO JSON file.

    Returns:
        Its content, which has the lists "images" and "annotations".

    Raises:
        UserError: if the file is missing, no JSON, or lacks one of them.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: it holds the annotations of the data set.")
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): is the download complete?") from None
    for key in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f'{path} has no list "{key}": expected annotations in the COCO format.')
    return content


def images_by_id(content: dict[str, Any], path: Path) -> dict[Any, dict[str, Any]]:
    """Return the records of the images by their id.

    Raises:
        UserError: if a record lacks what it must have, an id occurs twice, or a size is not positive.
    """
    images: dict[Any, dict[str, Any]] = {}
    for image in content["images"]:
        number, name = field(image, "id", "image", path), field(image, "file_name", "image", path, TEXT)
        height, width = (field(image, key, "image", path, NUMBER) for key in ("height", "width"))
        if number in images:
            raise UserError(f"{path}: the image id {number} occurs twice.")
        if not (height > 0 and width > 0):
            raise UserError(f"{path}: the image {name} must have a positive size, got {width}x{height} pixels.")
        images[number] = image
    return images


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
    if isinstance(value, types):
        return value
    number = record.get("id", record.get("image_id", "?")) if isinstance(record, dict) else record
    if value is None:
        raise UserError(f'{path}: {kind} {number!s:.40} has no "{key}".')
    names = " or ".join(_NAMES[one] for one in types)
    raise UserError(f'{path}: "{key}" of {kind} {number!s:.40} must be {names}, got {value!r:.40}.')
