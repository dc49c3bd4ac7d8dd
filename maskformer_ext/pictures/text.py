"""Words on pictures: a font, names that fit, and where on a segment its name has most room."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import printable
from maskformer_ext.pictures.sizes import LONG_SIDE, resize_map, shown_size

_MAX_NAMES, _MAX_SAME_NAME = 60, 8
_MEASURED = 512  # longer side of the map on which the room for names is looked for
_LONGEST_TEXT = 200  # characters, before the width is measured


def text_size(height: int, width: int, share: float, least: int, most: int) -> int:
    """Return the height of letters, in pixels, that can be read on a picture which is seen as a whole.

    Args:
        height: of the picture.
        width: of the picture.
        share: of its shorter side.
        least: pixels.
        most: pixels on a picture that a screen shows whole; more, in proportion, on a larger one.
    """
    most = max(most, round(most * max(height, width) / LONG_SIDE))
    return min(most, max(least, round(min(height, width) * share)))


@lru_cache(maxsize=32)
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Return the sans-serif font that comes with matplotlib, at a size in pixels."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def shortened(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """Return a text on one line, cut with an ellipsis where it is wider than ``room`` pixels."""
    text = printable(text[: 2 * _LONGEST_TEXT])
    cut = text[:_LONGEST_TEXT]
    if cut == text and font.getlength(text) <= room:
        return text
    fits, too_long = 1, len(cut)
    while fits < too_long:  # the most characters that fit
        middle = (fits + too_long + 1) // 2
        if font.getlength(f"{cut[:middle]}\u2026") <= room:
            fits = middle
        else:
            too_long = middle - 1
    return f"{cut[:fits]}\u2026"


def write_names(
    picture: Image.Image, owners: np.ndarray, labels: Sequence[int], info: DatasetInfo, name_size: float
) -> None:
    """Write names at the middle of the largest segments, as long as they fit and do not touch each other.

    Where a thing class occurs many times, the legend names it: a name on each would hide the image.

    Args:
        picture: is written on.
        owners: (H, W) integers, the index of the segment at each pixel of the picture, -1 = none.
        labels: (T,) class id of each segment.
        info: names of the classes.
        name_size: height of the names relative to the shorter side.
    """
    coarse = resize_map(owners, shown_size(*owners.shape, long_side=_MEASURED))
    scale = max(owners.shape) / max(coarse.shape)
    areas = np.bincount(coarse[coarse >= 0], minlength=len(labels))
    # Guesses that own no pixel, as most instances of low score, count for nothing.
    occurrences = np.bincount(np.asarray(labels, dtype=np.int64)[areas > 0], minlength=info.num_classes)
    draw = ImageDraw.Draw(picture)
    font = load_font(text_size(owners.shape[0], owners.shape[1], name_size, 11, 28))
    taken: list[tuple[float, float, float, float]] = []
    for index in np.argsort(-areas, kind="stable")[:_MAX_NAMES]:
        if areas[index] == 0 or occurrences[labels[index]] > _MAX_SAME_NAME:
            continue
        name = shortened(info.classes[int(labels[index])], font, max(1, picture.width - 6))
        left, top, right, bottom = draw.textbbox((0, 0), name, font=font)
        width, height = right - left, bottom - top
        if areas[index] * scale**2 < 0.8 * width * height or width > picture.width - 6:
            continue
        row, column, room = _middle(coarse == index)
        if room * scale < 0.45 * height:
            continue
        x = min(max((column + 0.5) * scale - width / 2, 3), max(3, picture.width - width - 3))
        y = min(max((row + 0.5) * scale - height / 2, 3), max(3, picture.height - height - 3))
        box = (x - 3, y - 3, x + width + 3, y + height + 3)
        if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
            continue
        taken.append(box)
        stroke = max(2, round(font.size / 14))
        draw.text(
            (x - left, y - top), name, font=font, fill=(255, 255, 255), stroke_width=stroke, stroke_fill=(16, 18, 22)
        )


def _middle(mask: np.ndarray) -> tuple[int, int, int]:
    """Return row, column and clearance, in pixels along the axes, of the point farthest from the mask's border."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    padded = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)

    def run_before(values: np.ndarray, axis: int) -> np.ndarray:
        position = np.arange(values.shape[axis], dtype=np.int32).reshape((-1, 1) if axis == 0 else (1, -1))
        return position - np.maximum.accumulate(np.where(values, 0, position), axis=axis)

    clearance = np.minimum.reduce(
        [
            run_before(padded, 0),
            run_before(padded[::-1], 0)[::-1],
            run_before(padded, 1),
            run_before(padded[:, ::-1], 1)[:, ::-1],
        ]
    )
    row, column = np.unravel_index(int(clearance.argmax()), clearance.shape)
    return top + int(row) - 1, left + int(column) - 1, int(clearance.max())
