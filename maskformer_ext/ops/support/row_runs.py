"""Runs of equal ids, row by row, and masks painted over each other: what transformers' instance results are made of."""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.ops.support.library import run_functions

_LIBRARY = run_functions()


def row_runs(segment_map: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> list[np.ndarray]:
    """List the runs of each id of a map that is resized by nearest neighbour, in ascending order of ids.

    Args:
        segment_map: (h, w) integers that int32 holds.
        rows: (H,) the row of the map of each output row.
        columns: (W,) the column of the map of each output column.

    Returns:
        int64 per id: start (from 1, in row-major order) and length of each run, one after the other.

    Raises:
        MemoryError: if the runs do not fit in memory.
    """
    if _LIBRARY is None:
        return _row_runs(segment_map[rows][:, columns].reshape(-1))
    ids = np.ascontiguousarray(segment_map, np.int32)
    rows, columns = np.ascontiguousarray(rows, np.int64), np.ascontiguousarray(columns, np.int64)
    count, total = ctypes.c_int64(), ctypes.c_int64()
    found = _LIBRARY.maskformer_ext_row_runs(
        ids.ctypes.data,
        ids.shape[1],
        rows.ctypes.data,
        len(rows),
        columns.ctypes.data,
        len(columns),
        ctypes.byref(count),
        ctypes.byref(total),
    )
    if found is None:
        raise MemoryError("the runs of the map do not fit in memory")
    values, lengths = np.empty(count.value, np.int32), np.empty(count.value, np.int64)
    numbers = np.empty(total.value, np.int64)
    _LIBRARY.maskformer_ext_row_runs_take(found, values.ctypes.data, lengths.ctypes.data, numbers.ctypes.data)
    lists = np.split(numbers, lengths.cumsum()[:-1]) if len(values) else []
    return [lists[index] for index in values.argsort().tolist()]


def has_positive_masks(logits: Tensor) -> bool:
    """Return whether `positive_masks` takes these logits: float32 on a CPU, with the native library."""
    return _LIBRARY is not None and logits.device.type == "cpu" and logits.dtype == torch.float32


def positive_masks(logits: Tensor, queries: Tensor) -> tuple[Tensor, Tensor, np.ndarray]:
    """Pack masks of positive logits as they are stored, and sum the probabilities inside.

    Args:
        logits: (Q, h, w) for which `has_positive_masks` holds.
        queries: (n,) int64, which of the Q.

    Returns:
        (n,) float64, the sum of the probabilities; NaN where any logit of the query is NaN.
        (n,) int64, how many pixels are inside.
        (n, h, ceil(w / 8)) uint8, the masks, the lowest bit leftmost.
    """
    assert _LIBRARY is not None
    height, width = logits.shape[1:]
    logits = logits.detach() if logits.stride(2) == 1 else logits.detach().contiguous()
    queries = queries.contiguous()
    sums, pixels = np.empty(len(queries), np.float64), np.empty(len(queries), np.int64)
    bits = np.empty((len(queries), height, (width + 7) // 8), np.uint8)
    _LIBRARY.maskformer_ext_positive_masks(
        logits.data_ptr(),
        queries.data_ptr(),
        len(queries),
        logits.stride(0),
        logits.stride(1),
        height,
        width,
        bits.ctypes.data,
        sums.ctypes.data,
        pixels.ctypes.data,
    )
    return torch.from_numpy(sums), torch.from_numpy(pixels), bits


def paint_masks(
    packed: np.ndarray, order: np.ndarray, width: int, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Paint masks over each other in their order, those left out that a nearest-neighbour resize does not see.

    Args:
        packed: (n, h, ceil(w / 8)) uint8, the lowest bit leftmost.
        order: (k,) which masks; one may come several times.
        width: w.
        rows: (H,) the rows that the resize looks at.
        columns: (W,) the columns.

    Returns:
        (h, w) int32, the place among the painted masks of the last one that has the pixel, or -1.
        (k,) bool, which are painted.
    """
    height = packed.shape[1]
    row, column = np.zeros(height, bool), np.zeros(width, bool)
    row[rows], column[columns] = True, True
    segment_map, kept = np.full((height, width), -1, np.int32), np.zeros(len(order), bool)
    if _LIBRARY is None:
        for place, index in enumerate(order.tolist()):
            mask = np.unpackbits(packed[index], axis=-1, count=width, bitorder="little").view(bool)
            kept[place] = mask[row][:, column].any()
            if kept[place]:
                segment_map[mask] = kept.sum() - 1
        return segment_map, kept
    packed, order = np.ascontiguousarray(packed, np.uint8), np.ascontiguousarray(order, np.int64)
    looked = np.packbits(column, bitorder="little")
    _LIBRARY.maskformer_ext_paint_masks(
        packed.ctypes.data,
        order.ctypes.data,
        len(order),
        height,
        width,
        row.ctypes.data,
        looked.ctypes.data,
        segment_map.ctypes.data,
        kept.ctypes.data,
    )
    return segment_map, kept


def _row_runs(flat: np.ndarray) -> list[np.ndarray]:
    start = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    runs = np.stack((start + 1, np.diff(start, append=len(flat))), 1)
    return [runs[flat[start] == number].reshape(-1) for number in np.unique(flat)]
