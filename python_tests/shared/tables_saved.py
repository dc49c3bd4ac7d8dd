"""Data sets of Hugging Face `datasets` made of drawn images: label images, objects with polygons, masks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from coco_exports import CLASSES, Picture
from PIL import Image, ImageDraw


def png(pixels: np.ndarray) -> bytes:
    """Return an image as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def picture_bytes(picture: Picture) -> bytes:
    """Return a drawn picture as the bytes of a PNG file."""
    pixels = np.full((picture.size[1], picture.size[0], 3), 60, np.uint8)
    for number, (_, polygons) in enumerate(picture.objects):
        pixels[_mask(picture, polygons)] = 120 + 60 * number
    return png(pixels)


def label_rows(pictures: Sequence[Picture], *, first: int = 1) -> list[dict[str, Any]]:
    """Return rows with an image and a label image: 0 outside, the classes from ``first`` on."""
    rows = []
    for picture in pictures:
        label = np.zeros((picture.size[1], picture.size[0]), np.uint8)
        for name, polygons in picture.objects:
            label[_mask(picture, polygons)] = first + CLASSES.index(name)
        rows.append(
            {
                "image": {"bytes": picture_bytes(picture), "path": picture.name},
                "label": {"bytes": png(label), "path": None},
            }
        )
    return rows


def object_rows(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """Return rows with an image, its number, and objects with polygons."""
    return [
        {
            "image_id": 100 + number,
            "image": {"bytes": picture_bytes(picture), "path": None},
            "objects": [
                {"category": CLASSES.index(name), "bbox": [0.0, 0.0, 1.0, 1.0], "segmentation": polygons}
                for name, polygons in picture.objects
            ],
        }
        for number, picture in enumerate(pictures)
    ]


def mask_rows(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """Return rows with an image, a list of masks, and the name of the class of each."""
    return [
        {
            "image": {"bytes": picture_bytes(picture), "path": None},
            "masks": [
                {"bytes": png(_mask(picture, polygons).astype(np.uint8) * 255), "path": None}
                for _, polygons in picture.objects
            ],
            "categories": [name for name, _ in picture.objects],
        }
        for picture in pictures
    ]


def _mask(picture: Picture, polygons: list[list[float]]) -> np.ndarray:
    mask = Image.new("1", picture.size)
    ImageDraw.Draw(mask).polygon(polygons[0], fill=1)
    return np.array(mask)
