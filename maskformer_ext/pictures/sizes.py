"""How large a picture is drawn, and images and maps brought to that size, however large or thin they are."""

from __future__ import annotations

import numpy as np
from PIL import Image

LONG_SIDE = 2048
"""Longer side of a picture, in pixels, that a screen shows whole; nothing is enlarged beyond it."""

_STRIP_PIXELS = 1 << 22  # of an image that are copied at a time


def shown_size(height: int, width: int, *, short_side: int = 0, long_side: int = 0) -> tuple[int, int]:
    """Return the height and width, in pixels, at which an image is drawn.

    Args:
        height: of the image.
        width: of the image.
        short_side: enlarge small images by a whole factor so that the shorter side has about this many pixels. The
            longer side stays below ``long_side``, or ``LONG_SIDE`` without it, whatever the ratio of the sides.
        long_side: shrink images whose longer side is larger than this; 0 = never.
    """
    longest = max(height, width)
    if long_side and longest > long_side:
        scale = long_side / longest
        return max(1, round(height * scale)), max(1, round(width * scale))
    wanted = round(short_side / max(1, min(height, width)))
    factor = max(1, min(wanted, (long_side or LONG_SIDE) // max(1, longest)))
    return height * factor, width * factor


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (H, W, 3) uint8 to (h, w, 3); a large image is shrunk strip by strip, so that no copy of it is made.

    Args:
        image: RGB.
        size: h and w.
    """
    height, width = image.shape[:2]
    if size == (height, width):
        return image
    rows, columns = (max(1, old // new // 2) for old, new in zip((height, width), size, strict=True))
    if rows * columns > 1:  # averages of whole blocks first, still at least twice as large as the result
        step = max(1, _STRIP_PIXELS // (width * rows)) * rows
        reduced = np.empty((-(-height // rows), -(-width // columns), 3), dtype=np.uint8)
        for top in range(0, height, step):
            strip = Image.fromarray(np.ascontiguousarray(image[top : top + step])).reduce((columns, rows))
            reduced[top // rows :][: strip.height] = np.asarray(strip)
        image = reduced
    shrinks = size[0] * size[1] < height * width
    method = Image.Resampling.BILINEAR if shrinks else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((size[1], size[0]), method))


def resize_map(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an integer map (H, W) to (h, w): each pixel takes the value at its centre."""
    if size == values.shape:
        return values
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)
        for old, new in zip(values.shape, size, strict=True)
    )
    return values[np.ix_(rows, columns)]
