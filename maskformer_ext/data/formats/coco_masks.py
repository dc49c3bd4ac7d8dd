"""COCO's segmentations, polygons and run lengths, checked before the rasteriser, which is native code, sees them."""

from __future__ import annotations

from typing import Any

import numpy as np

_FAR = 10  # sides of the image; the rasteriser takes memory for every step of an outline
_FIRST_CHARACTER, _LAST_CHARACTER = 48, 48 + 63  # of compressed run lengths: six bits each
_MORE, _SIGN = 0x20, 0x10


def rasterise(segmentation: Any, size: tuple[int, int]) -> tuple[dict[str, Any], np.ndarray]:
    """Draw polygons or run lengths as COCO does.

    Args:
        segmentation: a list of polygons [x, y, x, y, ...], or an object with "size" and "counts".
        size: height and width of the image.

    Returns:
        Compressed run lengths, and (H, W) uint8.

    Raises:
        ValueError: if it is something else, lies far outside the image, or does not fill it.
    """
    from faster_coco_eval.core import mask as rle_tools

    height, width = size
    if isinstance(segmentation, list):
        polygons = [_polygon(polygon, size) for polygon in segmentation]
        rle = rle_tools.merge(rle_tools.frPyObjects(polygons, height, width))
        return rle, rle_tools.decode(rle)
    if not isinstance(segmentation, dict) or "size" not in segmentation or "counts" not in segmentation:
        raise ValueError('run lengths must be an object with "size" and "counts"')
    if segmentation["size"] != [height, width]:
        raise ValueError(f"their size is {segmentation['size']!s:.40}, but the image's is [{height}, {width}]")
    counts = segmentation["counts"]
    runs = expand_counts(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("counts must be text or a list of whole numbers, at least 0")
    if sum(runs) != height * width:
        raise ValueError(f"their run lengths add up to {sum(runs)} pixels, but the image has {height * width}")
    compressed = isinstance(counts, str)
    rle = {"size": [height, width], "counts": counts.encode("ascii")} if compressed else _compress(runs, size)
    return rle, rle_tools.decode(rle)


def check_inside(segmentation: Any, size: tuple[int, int]) -> None:
    """Check that polygons touch their image: those that do not belong to another one, or to another size of it.

    Args:
        segmentation: a list of polygons [x, y, x, y, ...]; anything else passes.
        size: height and width of the image.

    Raises:
        ValueError: if they lie outside of the image, by more than a pixel.
    """
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        return
    numbers = [value for polygon in segmentation for value in polygon]
    if len(numbers) < 6 or not all(type(value) in (int, float) for value in numbers):
        return
    height, width = size
    xs = [value for polygon in segmentation for value in polygon[::2]]
    ys = [value for polygon in segmentation for value in polygon[1::2]]
    if max(xs) < -1 or max(ys) < -1 or min(xs) > width + 1 or min(ys) > height + 1:
        raise ValueError(
            f"lies outside of its image, which is {width}x{height} pixels: x from {min(xs):g} to {max(xs):g}, y from "
            f"{min(ys):g} to {max(ys):g}; were the images resized after labelling"
        )


def expand_counts(text: str) -> list[int]:
    """Return the run lengths that COCO's compressed text holds.

    Raises:
        ValueError: if it holds another character, or ends within a number.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character)
        if not _FIRST_CHARACTER <= code <= _LAST_CHARACTER:
            raise ValueError(f"compressed run lengths must not hold the character {character!r}")
        code -= _FIRST_CHARACTER
        value |= (code & 0x1F) << shift
        shift += 5
        if code & _MORE:
            continue
        if code & _SIGN:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("compressed run lengths end within a number")
    return runs


def _compress(runs: list[int], size: tuple[int, int]) -> dict[str, Any]:
    from faster_coco_eval.core import mask as rle_tools

    return rle_tools.frPyObjects({"size": list(size), "counts": runs}, *size)


def _polygon(polygon: Any, size: tuple[int, int]) -> list[float]:
    """Return a polygon if it is one."""
    if not isinstance(polygon, list) or not all(type(value) in (int, float) for value in polygon):
        raise ValueError("a polygon must be a list of numbers")
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"a polygon must have x and y of three points or more, got {len(polygon)} numbers")
    if not max(map(abs, polygon)) < _FAR * max(size) or any(value != value for value in polygon):
        raise ValueError("a polygon must lie in the image or near it")  # NaN is no less
    return polygon
