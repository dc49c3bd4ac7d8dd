"""The numbers in netpbm and BMP files, which Pillow spreads over 0..255, inverts or misreads; the depth of a PNG."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np

_COMMENT = re.compile(rb"#[^\r\n]*")
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"  # between the numbers of a header
_LONGEST = 10  # digits of a number in a PGM file
_DEPTH_AT = 24  # in a PNG: after the signature, the chunk's length and name, width and height
_BMP_HEADER, _OS2_HEADER = 14, 12  # bytes before the second header, and of its oldest form


def png_depth(path: Path) -> int:
    """Return the bits per channel, or per palette index, in a PNG file."""
    with path.open("rb") as file:
        return file.read(_DEPTH_AT + 1)[_DEPTH_AT]


def netpbm_maximum(content: bytes) -> int:
    """Return the largest number that a PGM or PPM file may hold, as its header says; 1 for a PBM."""
    return _netpbm_header(content)[3]


def netpbm_numbers(content: bytes) -> np.ndarray | None:
    """Return the numbers of a PBM or PGM file, plain or binary.

    Args:
        content: the file. In a PBM 1 is black, and it is the number 1 here.

    Returns:
        (H, W) uint8 or uint16; None for the other netpbm formats, which hold colours.

    Raises:
        ValueError: if the file ends too early or holds what it must not.
    """
    kind, width, height, maximum, start = _netpbm_header(content)
    if kind not in (b"1", b"2", b"4", b"5"):
        return None
    count = width * height
    if kind == b"1":  # digits may follow each other without a gap
        digits = np.frombuffer(b"".join(_COMMENT.sub(b"", content[start:]).split()), np.uint8)
        numbers = digits[:count] - np.uint8(ord("0"))
    elif kind == b"2":
        words = _COMMENT.sub(b"", content[start:]).split(None, count)[:count]
        if not all(word.isdigit() and len(word) < _LONGEST for word in words):
            raise ValueError("it holds something else than small numbers")
        numbers = np.array([int(word) for word in words], np.int64)
    elif kind == b"4":
        line = (width + 7) // 8
        packed = np.frombuffer(content, np.uint8, min(line * height, len(content) - start), start)
        if len(packed) < line * height:
            raise ValueError("it ends too early")
        numbers = np.unpackbits(packed.reshape(height, line), axis=1)[:, :width].ravel()
    else:
        dtype = np.dtype(">u2" if maximum > 255 else np.uint8)
        numbers = np.frombuffer(content[start : start + count * dtype.itemsize], dtype)
    if len(numbers) < count:
        raise ValueError("it ends too early")
    if numbers.min() < 0 or numbers.max() > maximum:
        raise ValueError(f"it holds a number beyond the maximum of {maximum} that it names")
    return numbers.astype(np.uint16 if maximum > 255 else np.uint8).reshape(height, width)


def bmp_numbers(content: bytes) -> np.ndarray | None:
    """Return the palette indices of a BMP file without compression.

    Returns:
        (H, W) uint8; None for files that are compressed or hold colours.

    Raises:
        ValueError: if the file ends too early.
    """
    start, size = struct.unpack_from("<II", content, 10)
    if size == _OS2_HEADER:
        width, height, _, bits = struct.unpack_from("<HHHH", content, _BMP_HEADER + 4)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", content, _BMP_HEADER + 4)
    if bits not in (1, 2, 4, 8) or compression:
        return None
    line, rows = (width * bits + 31) // 32 * 4, abs(height)
    if len(content) - start < line * rows:
        raise ValueError("it ends too early")
    packed = np.frombuffer(content, np.uint8, line * rows, start).reshape(rows, line)
    numbers = packed
    if bits < 8:
        digits = np.unpackbits(packed, axis=1).reshape(rows, -1, bits)
        numbers = digits @ (1 << np.arange(bits - 1, -1, -1)).astype(np.uint8)
    return np.ascontiguousarray(numbers[:: -1 if height > 0 else 1, :width])


def _netpbm_header(content: bytes) -> tuple[bytes, int, int, int, int]:
    """Return the digit of the format, width, height, maximum, and where the pixels begin."""
    fields = 2 if content[1:2] in (b"1", b"4") else 3
    header = re.match(rb"P(\d)" + (_GAP + rb"(\d+)") * fields + rb"\s", content)
    if header is None:
        raise ValueError("its header is damaged")
    kind, width, height, *maximum = header.groups()
    return kind, int(width), int(height), int(maximum[0]) if maximum else 1, header.end()
