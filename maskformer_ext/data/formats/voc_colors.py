"""Pascal VOC's classes and colours, and masks that hold either its numbers or colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maskformer_ext.data.classes import ClassTable, Color, color_number, color_of
from maskformer_ext.errors import UserError, printable

VOID = 255
"""The number of void."""

VOID_COLOR = color_number((224, 224, 192))
"""The colour of void, as `color_number` counts."""

CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""The names of VOC 2012."""


def voc_color(number: int) -> Color:
    """Return the colour of a number in VOC's palette: bits of the number, spread over the three channels."""
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (number >> channel & 1) << (7 - bit)
        number >>= 3
    return channels[0], channels[1], channels[2]


def voc_table() -> ClassTable:
    """Return VOC's 21 classes. All but the background are things."""
    count = len(CLASSES)
    return ClassTable(
        CLASSES, tuple(map(voc_color, range(count))), things=tuple(range(1, count)), background=0, own_colors=True
    )


def agrees_with_voc(path: Path) -> bool:
    """Return whether a mask could be one of VOC's 21 classes, by its colours.

    Raises:
        UserError: if the file cannot be read.
    """
    from maskformer_ext.data.formats.labels import read_color_ids, read_label, read_palette
    from maskformer_ext.media.decoding import open_image

    with open_image(path, "a label image") as image:
        mode = image.mode
    if mode == "RGB":
        colors = np.unique(read_color_ids(path)).tolist()
        return set(colors) <= {color_number(voc_color(number)) for number in range(len(CLASSES))} | {VOID_COLOR}
    palette = read_palette(path)
    numbers = [number for number in np.unique(read_label(path)).tolist() if number != VOID]
    if palette is None or (numbers and max(numbers) >= min(len(CLASSES), len(palette))):
        return False
    return all(tuple(palette[number].tolist()) == voc_color(number) for number in numbers)


def class_numbers(path: Path, table: ClassTable, *, exif: bool = True) -> np.ndarray:
    """Read a mask of classes.

    Args:
        path: a PNG file with numbers, or with the classes' colours in RGB or in a palette.
        table: the classes, with their colours where a ``labelmap.txt`` gives them.
        exif: turn the mask as the orientation in the file says.

    Returns:
        (H, W) uint8: class ids, and 255 for void.

    Raises:
        UserError: if the file cannot be read, or a number or colour is no class.
    """
    from maskformer_ext.data.formats.labels import read_color_ids, read_label
    from maskformer_ext.media.decoding import open_image

    colored = {color_number(color): number for number, color in enumerate(table.colors)} if table.own_colors else {}
    colored.setdefault(VOID_COLOR, VOID)
    with open_image(path, "a label image") as image:
        rgb = image.mode == "RGB"
    stored = read_color_ids(path, exif=exif) if rgb else read_label(path, exif=exif)
    found, index = np.unique(stored, return_inverse=True)
    if rgb:
        numbers = [colored.get(color, -1) for color in found.tolist()]
    else:
        numbers = _by_palette(path, found.tolist(), colored) if table.own_colors else found.tolist()
    for number, value in zip(found.tolist(), numbers, strict=True):
        if value != VOID and not 0 <= value < len(table.classes):
            what = f"the colour {list(color_of(number))}" if rgb else f"the value {number}"
            raise UserError(
                f"{path} holds {what}, which is none of the {len(table.classes)} classes "
                f"({printable(table.classes[0])}, ...): correct the mask, or name the class in labelmap.txt."
            )
    return np.array(numbers, np.uint8)[index.reshape(stored.shape)]


def _by_palette(path: Path, found: list[int], colored: dict[int, int]) -> list[int]:
    """Return the classes of numbers by the colours of a palette, or the numbers where it has other colours."""
    from maskformer_ext.data.formats.labels import read_palette

    palette = read_palette(path)
    if palette is None or any(number >= len(palette) for number in found if number != VOID):
        return found
    keys = [VOID_COLOR if number == VOID else color_number(palette[number].tolist()) for number in found]
    return [colored[key] for key in keys] if all(key in colored for key in keys) else found
