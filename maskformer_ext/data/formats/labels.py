"""Label images: the numbers that a file stores, never the grey levels or colours that a viewer makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from maskformer_ext.data.formats.raw_labels import bmp_numbers, netpbm_maximum, netpbm_numbers, png_depth
from maskformer_ext.errors import UserError
from maskformer_ext.media.decoding import as_stored, open_image, upright

_FORMATS = ("PNG", "TIFF", "BMP", "PPM", "GIF")  # as Pillow calls those that keep numbers
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 259, 262, 339  # tags of TIFF
_LOSSY = {6: "JPEG", 7: "JPEG", 34892: "JPEG", 50001: "WebP"}  # compressions of TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2


def read_label(path: Path, *, exif: bool = True) -> np.ndarray:
    """Read a label image: one channel of up to 16 bit; of a palette image the indices, not the colours.

    Numbers of 1, 2, 4 or 12 bit, and those of a PGM or PBM with any maximum, come as they are stored.

    Args:
        path: PNG, TIFF, BMP, PGM, PBM or GIF (first frame).
        exif: turn the label as the orientation in the file says.

    Returns:
        (H, W) uint8 or uint16.

    Raises:
        UserError: if the file is damaged or lossy, has several channels or numbers that 16 bits do not hold.
    """
    with open_image(path, "a label image") as opened:
        _check_lossless(path, opened)
        if opened.format in ("PPM", "BMP"):
            numbers = (netpbm_numbers if opened.format == "PPM" else bmp_numbers)(path.read_bytes())
            if numbers is not None:
                return numbers
        label = _stored_numbers(path, opened, exif)
    if label.dtype == np.uint8:
        return label
    if label.min() < 0 or label.max() > np.iinfo(np.uint16).max:
        raise UserError(f"{path} holds labels from {label.min()} to {label.max()}: they must be within 0 and 65535.")
    return label.astype(np.uint16)


def read_color_ids(path: Path, *, exif: bool = True) -> np.ndarray:
    """Read a label image whose colours are numbers: R + 256 G + 65536 B.

    Args:
        path: of three channels of 8 bit.
        exif: turn the label as the orientation in the file says.

    Returns:
        (H, W) uint32.

    Raises:
        UserError: if the file does not exist, is damaged or lossy, or has not three channels of 8 bit.
    """
    with open_image(path, "a label image") as opened:
        _check_lossless(path, opened)
        if opened.mode != "RGB":
            raise UserError(f"{path} has the mode {opened.mode}: its colours must be ids, so it must be RGB.")
        depth = _depth(path, opened)
        maximum = netpbm_maximum(path.read_bytes()) if opened.format == "PPM" else 255
        if maximum != 255:
            raise UserError(f"{path} has the maximum {maximum}: its colours must be ids, so it must have 255.")
        if depth != 8:
            raise UserError(f"{path} has {depth} bits per channel: its colours must be ids, so it must have 8.")
        image = upright(opened) if exif else as_stored(opened)
        size, pixels = image.size, image.tobytes("raw", "RGBX")
    return np.frombuffer(pixels, "<u4").reshape(size[1], size[0]) & np.uint32(0xFFFFFF)


def read_palette(path: Path) -> np.ndarray | None:
    """Return (n, 3) the colours of a palette image, n at most 256; None for other images.

    Raises:
        UserError: if the file does not exist or is damaged.
    """
    with open_image(path, "a label image") as opened:
        colors = opened.getpalette("RGB") if opened.mode == "P" else None
        return None if colors is None else np.array(colors, np.int64).reshape(-1, 3)


def _check_lossless(path: Path, image: Image.Image) -> None:
    """Raise for a format that changes numbers."""
    kind = image.format
    if kind == "TIFF":
        kind = _LOSSY.get(_tag(image, _COMPRESSION, 1), kind)
    if kind not in _FORMATS:
        raise UserError(
            f"{path} is stored as {kind}, which does not keep the numbers of a label image: use PNG, TIFF, BMP or PGM."
        )


def _stored_numbers(path: Path, image: Image.Image, exif: bool) -> np.ndarray:
    """Undo what Pillow does to show numbers of few bits: it spreads them over 0..255, and inverts some."""
    mode, depth = image.mode, _depth(path, image)
    inverted = image.format == "TIFF" and _tag(image, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO
    if mode not in ("L", "P", "1") and not mode.startswith("I"):
        raise UserError(f"{path} has the mode {mode}: a label image must have one channel of 8 or 16 bit.")
    label = np.array(upright(image) if exif else as_stored(image))
    if mode not in ("L", "1"):
        return label
    if image.format == "TIFF" and depth == 8 and _tag(image, _SAMPLE_FORMAT, 1) == _SIGNED:
        return label.view(np.int8).astype(np.int32)
    largest = 1 if mode == "1" else (1 << depth) - 1
    label = label.astype(np.uint8)
    if mode == "L" and depth < 8:
        label //= np.uint8(255 // largest)
    return np.uint8(largest) - label if inverted else label


def _depth(path: Path, image: Image.Image) -> int:
    """Return the bits per channel in the file."""
    if image.format == "PNG":
        return png_depth(path)
    if image.format == "TIFF":
        return max(image.tag_v2.get(_BITS) or (1,))  # type: ignore[attr-defined]
    return 8


def _tag(image: Image.Image, number: int, default: int) -> int:
    value = image.tag_v2.get(number, default)  # type: ignore[attr-defined]
    return value[0] if isinstance(value, tuple) else value
