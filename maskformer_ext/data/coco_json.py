"""Annotation files in COCO's JSON layouts, read once and checked, one record an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maskformer_ext.errors import UserError


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
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
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
        number, height, width, name = (
            field(image, key, "image", path) for key in ("id", "height", "width", "file_name")
        )
        if number in images:
            raise UserError(f"{path}: the image id {number} occurs twice.")
        if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
            raise UserError(f"{path}: the image {name} must have a positive size, got {width}x{height} pixels.")
        images[number] = image
    return images


def field(record: Any, key: str, kind: str, path: Path) -> Any:
    """Return a value that a record must have.

    Raises:
        UserError: if it has not; the sentence names the file and the record.
    """
    if not isinstance(record, dict) or key not in record:
        number = record.get("id", record.get("image_id", "?")) if isinstance(record, dict) else record
        raise UserError(f'{path}: {kind} {number} has no "{key}".')
    return record[key]
