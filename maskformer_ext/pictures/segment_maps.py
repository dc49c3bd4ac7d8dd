"""Maps of segment ids at the size of a photo: what occurs in them, where, and how much of it; in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from maskformer_ext.ops.instance_inference import Instances


def present_values(values: np.ndarray) -> list[int]:
    """Return which of 0, 1, 2 ... occur in a map (H, W) of them, in ascending order."""
    counts = np.zeros(0, dtype=np.int64)
    for rows in bands(*values.shape):
        own = np.bincount(values[rows].reshape(-1))
        longer, shorter = (own, counts) if len(own) > len(counts) else (counts, own)
        longer[: len(shorter)] += shorter
        counts = longer
    return np.flatnonzero(counts).tolist()


def index_of(values: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """Return (H, W) int32: the place in ``ids`` of each value of a map, -1 where it is not among them."""
    table = np.full(max([int(values.max(initial=0)), *ids]) + 1, -1, dtype=np.int32)
    table[list(ids)] = np.arange(len(ids))
    return table[values]


def instance_owners(result: Instances, min_score: float) -> np.ndarray:
    """Return (H, W) uint16 or int32: 1 + the index of the best instance at each pixel, 0 where there is none.

    Args:
        result: where scores are equal, the later instance is the better one.
        min_score: instances below it are left out.
    """
    owners = np.zeros(result.size, dtype=np.uint16 if len(result) <= np.iinfo(np.uint16).max else np.int32)
    packed = result.packed_masks.cpu().numpy()
    free = np.full((result.size[0], packed.shape[2]), 255, dtype=np.uint8)
    scores = result.scores.cpu().numpy()
    for index in np.argsort(scores, kind="stable")[::-1].tolist():  # the best first, each takes what is left
        if not scores[index] >= min_score:
            continue
        own = packed[index] & free
        rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
        if len(rows) == 0:
            continue
        free ^= own
        part = own[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        window = owners[rows[0] : rows[-1] + 1, 8 * columns[0] : 8 * (columns[-1] + 1)]
        mask = np.unpackbits(part, axis=1, count=window.shape[1], bitorder="little").view(bool)
        np.copyto(window, owners.dtype.type(index + 1), where=mask)
    return owners


def bands(height: int, width: int, pixels: int = 1 << 20) -> Iterator[slice]:
    """Yield the rows of an image in bands of about ``pixels`` pixels."""
    step = max(1, pixels // max(1, width))
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def boxes_and_areas(ids: np.ndarray, least: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the box and the area of each value of a map.

    Args:
        ids: (H, W) integers, none negative.
        least: N at least.

    Returns:
        (N, 4) int64 x0, y0, x1, y1, half-open, and (N,) int64 pixels, for the values 0 to N - 1. N - 1 is the largest
        value that occurs, or ``least - 1``. The boxes of values that do not occur mean nothing.
    """
    height, width = ids.shape
    count = max(least, int(ids.max(initial=0)) + 1)
    low = np.full((2, count), max(height, width), dtype=np.int64)
    high = np.zeros((2, count), dtype=np.int64)
    areas = np.zeros(count, dtype=np.int64)
    for rows in bands(height, width):
        # Runs of one value along the rows are far fewer than pixels.
        part = ids[rows]
        starts_run = np.ones(part.shape, dtype=bool)
        np.not_equal(part[:, 1:], part[:, :-1], out=starts_run[:, 1:])
        first = np.flatnonzero(starts_run)
        length = np.diff(first, append=part.size)
        value = part.reshape(-1)[first]
        row, column = np.divmod(first, width)
        areas += np.bincount(value, weights=length, minlength=count).astype(np.int64)
        np.minimum.at(low[0], value, column)
        np.maximum.at(high[0], value, column + length)
        np.minimum.at(low[1], value, row + rows.start)
        np.maximum.at(high[1], value, row + rows.start + 1)
    return np.stack([low[0], low[1], high[0], high[1]], axis=1), areas
