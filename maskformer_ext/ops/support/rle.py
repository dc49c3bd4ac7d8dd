"""COCO run lengths (column-major) of bit-packed masks, by the native library, or else in NumPy."""

from __future__ import annotations

import ctypes
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from maskformer_ext.ops.support.library import run_functions

_LIBRARY = run_functions()


def encode(packed: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]) -> dict[str, Any]:
    """Encode one mask as pycocotools would.

    Args:
        packed: (H, ceil(W / 8)) uint8, the lowest bit leftmost.
        box: x0, y0, x1, y1 in half-open pixels; the mask is empty outside.
        size: (H, W).

    Returns:
        ``{"size": [H, W], "counts": bytes}``.
    """
    return encode_all(packed[None], [box], size)[0]


def encode_all(packed: np.ndarray, boxes: ArrayLike, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Encode masks as pycocotools would.

    Args:
        packed: (n, H, ceil(W / 8)) uint8, the lowest bit leftmost.
        boxes: (n, 4), x0, y0, x1, y1 in half-open pixels; a mask is empty outside.
        size: (H, W).

    Returns:
        ``{"size": [H, W], "counts": bytes}`` of each.

    Raises:
        MemoryError: if the run lengths do not fit in memory.
    """
    height, width = size
    corners = np.ascontiguousarray(boxes, np.int64).reshape(-1, 4)
    if _LIBRARY is None:
        texts = [
            compress(run_lengths(mask, (x0, y0, x1, y1), size))
            for mask, (x0, y0, x1, y1) in zip(packed, corners.tolist(), strict=True)
        ]
    else:
        packed = np.ascontiguousarray(packed, np.uint8)
        offsets = np.zeros(len(packed) + 1, np.int64)
        arguments = (packed.ctypes.data, corners.ctypes.data, len(packed), height, width, offsets.ctypes.data)
        found = _LIBRARY.maskformer_ext_mask_texts(*arguments)
        if found is None:
            raise MemoryError("the run lengths of the masks do not fit in memory")
        text = ctypes.create_string_buffer(int(offsets[-1]))
        _LIBRARY.maskformer_ext_mask_texts_take(found, text)
        whole = text.raw
        texts = [whole[begin:end] for begin, end in pairwise(offsets.tolist())]
    return [{"size": [height, width], "counts": counts} for counts in texts]


def run_lengths(packed: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """Return the alternating lengths of runs of 0 and 1 in column-major order, int64; the first may be 0."""
    height, width = size
    x0, y0, x1, y1 = box
    total = height * width
    # Eight columns at a time: a bit is set where a pixel differs from the one above it. A row of 0 above and below
    # makes every run start and end inside its column; touching runs are joined afterwards.
    first_byte = x0 // 8
    inside = packed[y0:y1, first_byte : (x1 + 7) // 8]
    changes = np.zeros((inside.shape[0] + 1, inside.shape[1]), dtype=np.uint8)
    changes[:-1] = inside
    changes[1:] ^= inside
    changed = np.flatnonzero(changes != 0)  # few: most pixels equal the one above
    if len(changed) == 0:
        return np.array([total], dtype=np.int64)
    row, byte = np.divmod(changed, changes.shape[1])
    which, bit = np.divmod(np.flatnonzero(np.unpackbits(changes[row, byte], bitorder="little").view(bool)), 8)
    edges = np.sort((8 * (first_byte + byte[which]) + bit) * height + y0 + row[which])
    starts, ends = edges[0::2], edges[1::2]
    apart = starts[1:] != ends[:-1]
    starts = starts[np.concatenate(([True], apart))]
    ends = ends[np.concatenate((apart, [True]))]
    bounds = np.stack((starts, ends), axis=1).ravel()
    if bounds[-1] != total:
        bounds = np.append(bounds, total)
    return np.diff(bounds, prepend=0)


def compress(counts: np.ndarray) -> bytes:
    """Write run lengths as COCO's string: differences to the count before last, 5 bits a character, lowest first."""
    values = counts.astype(np.int64)
    values[3:] -= counts[1:-2]
    characters, used = [], []
    more = np.ones(len(values), dtype=bool)
    while more.any():
        low = values & 0x1F
        values = values >> 5
        used.append(more)
        more = more & np.where(low & 0x10, values != -1, values != 0)
        characters.append(low + np.where(more, 0x20, 0) + 48)
    # Column i of the grid holds the characters of value i; those in use are read value by value.
    grid = np.stack(characters, axis=1).astype(np.uint8)
    return grid[np.stack(used, axis=1)].tobytes()
