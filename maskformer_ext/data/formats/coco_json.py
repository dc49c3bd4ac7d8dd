"""Annotation files in COCO's JSON layouts, read once and checked, one record per image."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from maskformer_ext.data.listing import check_below, plain_path
from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import parse_json, read_json, read_text

NUMBER, REAL, TEXT, LIST, LIST_OR_OBJECT = (int,), (int, float), (str,), (list,), (list, dict)
_log = logging.getLogger(__name__)
_ID = NUMBER + TEXT
_SHOWN = 3  # annotations that the log names
_LARGEST = (1 << 63) - 1  # of 64-bit integers
_NAMES = {int: "a whole number", float: "a number", str: "text", list: "a list", dict: "an object"}


def read_annotations(path: Path, content: Any = None) -> dict[str, Any]:
    """Read a COCO JSON file.

    Args:
        path: the file.
        content: of the file, where it was read already.

    Returns:
        Its content, which has the lists "images" and "annotations".

    Raises:
        UserError: if the file is missing, no JSON, or lacks one of them.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path} is missing: it holds the annotations of the data set.")
    content = read_json(path, "an annotation file in the COCO format") if content is None else content
    for key in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f'{path} has no list "{key}": expected annotations in the COCO format.')
    return content


def read_own_annotations(path: Path) -> dict[str, Any]:
    """Read somebody's own COCO JSON file; what it is instead, where it is something else, is said.

    Raises:
        UserError: as `read_annotations`, and with a remedy for files that are often taken for annotations.
    """
    content = None
    if os.path.isfile(path):
        text = read_text(path, "an annotation file in the COCO format")
        start = text.lstrip()[:1]
        if start == "<":
            raise UserError(f"{path} is a web page or XML, not JSON: download or export the annotations again.")
        if not start:
            raise UserError(f"{path} is empty: export the annotations again.")
        if start not in "{[" and "," in text.partition("\n")[0]:
            raise UserError(f"{path} is no JSON but looks like a table (CSV): export the annotations as COCO JSON.")
        content = parse_json(text, path, "an annotation file in the COCO format")
        if instead := _kind_instead(content):
            raise UserError(f"{path} {instead}.")
    return read_annotations(path, content)


def _kind_instead(content: Any) -> str | None:
    """Return what a file is that is no COCO annotation file, and what to do; None where nothing is known of it."""
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict) and "image_id" in first and ("score" in first or "bbox" in first):
        return 'holds a list of results, not annotations: give the file that also has "images" and "categories"'
    if isinstance(content, list):
        return 'holds a list, but annotations in the COCO format are an object with "images" and "annotations"'
    if isinstance(content, dict) and "shapes" in content and "images" not in content:
        return "is a LabelMe file: give the folder of such files as data.root with config=folder"
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        return "is GeoJSON: export the annotations as COCO JSON"
    if isinstance(content, dict) and "_via_img_metadata" in content:
        return "is a project of VIA: export the annotations as COCO JSON there"
    return None


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
        if (owner := owners.setdefault(plain_path(name), number)) != number:
            raise UserError(
                f"{path}: the images {printable(owner)} and {printable(number)} have one file, {printable(name)}: "
                "results could not tell them apart."
            )
        images[number] = image
    return images


def has_no_mask(segmentation: Any) -> bool:
    """Return whether an annotation is a box only: no segmentation, an empty one, or a list of empty ones."""
    if isinstance(segmentation, list):
        return all(part == [] for part in segmentation)
    return segmentation is None or segmentation == {}


def report_boxes(boxes: Sequence[str], total: int, path: Path) -> None:
    """Log how many annotations of a file have no mask.

    Args:
        boxes: what such annotations are called.
        total: of all annotations.
        path: the file.

    Raises:
        UserError: if none has a mask.
    """
    if not boxes:
        return
    if len(boxes) == total:
        raise UserError(
            f"{path}: none of its {total} annotations has a mask, they are boxes (annotation {boxes[0]}): label "
            "outlines, or export a segmentation data set."
        )
    names = f"{', '.join(boxes[:_SHOWN])}{', ...' if len(boxes) > _SHOWN else ''}"
    plural = "s" if len(boxes) > 1 else ""
    _log.warning("%s", f"{printable(path)}: left out {len(boxes)} annotation{plural} without a mask ({names})")


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
