"""A glance at a JSON file: whether it is COCO's, of which kind, and what it names, without taking it apart."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskformer_ext.errors import UserError, why
from maskformer_ext.files import read_json

INSTANCES, PANOPTIC, OTHER = "instances", "panoptic", "other"
"""Kinds of COCO files: objects with polygons or run lengths, segments of PNGs, and what has neither (captions)."""

_SMALL = 16 << 20  # bytes of a file that is parsed at once, so that errors have a line
_FIRST_ANNOTATION = 1 << 20  # bytes in which the first one says what it is
_FIRST_PART = 1 << 16  # bytes in which a list of categories may end; more is read where it does not
_SPACE = b" \t\r\n"
_CATEGORY_ID = re.compile(rb'"category_id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)')
_FILE_NAME = re.compile(rb'"file_name"\s*:')
_FIRST_NAME = re.compile(rb'"images"\s*:.*?"file_name"\s*:\s*("(?:[^"\\]|\\.)*")', re.DOTALL)
_SEGMENTS = re.compile(rb'"segments_info"\s*:')


@dataclass(frozen=True)
class Glance:
    """What a COCO file was seen to hold.

    Attributes:
        kind: INSTANCES, PANOPTIC or OTHER.
        images: how many it lists.
        categories: entries of "categories", as they are; None where they were not found.
    """

    kind: str
    images: int
    categories: list[Any] | None


def looks_like_coco(path: Path) -> bool:
    """Return whether a file is a JSON object with COCO's lists, as far as its keys tell."""
    with _mapped(path) as data:
        return _kind(data) is not None


def holds_masks(path: Path) -> bool:
    """Return whether a file looks like COCO's with objects or segments, not captions or other things."""
    with _mapped(path) as data:
        return _kind(data) in (INSTANCES, PANOPTIC)


def holds_segments(path: Path) -> bool:
    """Return whether a file is COCO's of panoptic segments."""
    with _mapped(path) as data:
        return _kind(data) == PANOPTIC


def first_image(path: Path) -> str | None:
    """Return the name of the first image of a file, as it is written there; None where it names none."""
    with _mapped(path) as data:
        match = _FIRST_NAME.search(data)
        text = None if match is None else match.group(1)
    try:
        return None if text is None else str(json.loads(text))
    except ValueError:
        return None


def glance(path: Path) -> Glance:
    """Look at a COCO file, within a second for each gigabyte.

    Raises:
        UserError: if a small file is no valid JSON, or a large one ends too early.
    """
    if path.stat().st_size <= _SMALL:
        read_json(path, "an annotation file in the COCO format")
    with _mapped(path) as data:
        if data[-(1 << 10) :].rstrip(_SPACE + b"\0")[-1:] != b"}":
            raise UserError(f"{path} ends in the middle of its JSON: copy or download it again.")
        kind, names = _kind(data) or OTHER, _count(_FILE_NAME, data)
        if kind == PANOPTIC:  # whose annotations name files, too
            names = max(0, names - _count(_SEGMENTS, data))
        return Glance(kind, names, _categories(data))


def peek_categories(path: Path) -> list[Any] | None:
    """Return the entries of "categories" without parsing the rest; None where the file has none or is damaged."""
    try:
        with _mapped(path) as data:
            return _categories(data)
    except UserError:
        return None


def used_categories(path: Path) -> set[int | str]:
    """Return the ids of the categories that annotations of a file have; empty where it cannot be read."""
    try:
        with _mapped(path) as data:
            return {json.loads(text) for text in {match.group(1) for match in _CATEGORY_ID.finditer(data)}}
    except (UserError, ValueError):
        return set()


@contextmanager
def _mapped(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                yield b""
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data
    except OSError as error:
        raise UserError(f"{path} cannot be read: {why(error)}") from None


def _kind(data: Any) -> str | None:
    """Return the kind of a file by its first annotation; None where it is none of COCO's."""
    if not data or data[: 1 << 10].lstrip(b"\xef\xbb\xbf" + _SPACE)[:1] != b"{":
        return None
    lists = {key: re.search(rb'"%s"\s*:\s*\[' % key, data) for key in (b"images", b"annotations", b"categories")}
    if lists[b"images"] is None or (annotations := lists[b"annotations"]) is None:
        return None
    first = data[annotations.end() : annotations.end() + _FIRST_ANNOTATION]
    if b'"segments_info"' in first:
        return PANOPTIC
    empty = first.lstrip(_SPACE)[:1] == b"]"
    return INSTANCES if b'"category_id"' in first or (empty and lists[b"categories"] is not None) else OTHER


def _count(pattern: re.Pattern[bytes], data: Any) -> int:
    return sum(1 for _ in pattern.finditer(data))


def _categories(data: Any) -> list[Any] | None:
    places = [match.end() - 1 for match in re.finditer(rb'"categories"\s*:\s*\[', data)]
    for place in places:
        part = _FIRST_PART
        while True:
            text = bytes(data[place : place + part]).decode("utf-8", "replace")
            try:
                found, _ = json.JSONDecoder().raw_decode(text)
            except (ValueError, RecursionError):
                if place + part >= len(data):
                    break
                part *= 16
                continue
            if found and all(isinstance(entry, dict) and {"id", "name"} <= entry.keys() for entry in found):
                return found
            break
    return None
