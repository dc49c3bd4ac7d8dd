"""Count how often two integer maps hold each pair of values: all that mIoU and PQ need of the pixels."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from maskformer_ext.ops.support.library import c_functions

_POINTER, _COUNT = ctypes.c_void_p, ctypes.c_int64
_LIBRARY = c_functions()
if _LIBRARY is not None:
    _LIBRARY.maskformer_ext_joint_histogram.argtypes = (_POINTER, _POINTER, _COUNT, _COUNT, _POINTER)
    _LIBRARY.maskformer_ext_joint_histogram.restype = None
    _LIBRARY.maskformer_ext_pair_areas.argtypes = (_POINTER, _POINTER, _COUNT, ctypes.POINTER(_COUNT))
    _LIBRARY.maskformer_ext_pair_areas.restype = _POINTER
    _LIBRARY.maskformer_ext_pair_areas_take.argtypes = (_POINTER, _POINTER, _POINTER, _POINTER)
    _LIBRARY.maskformer_ext_pair_areas_take.restype = None


def joint_histogram(rows: np.ndarray, columns: np.ndarray, num_rows: int, num_columns: int) -> np.ndarray:
    """Count the pixels of each pair of values of two maps.

    Args:
        rows: integer array of any shape, values in [0, num_rows).
        columns: integer array of the same shape, values in [0, num_columns).
        num_rows: how many values ``rows`` may take.
        num_columns: how many values ``columns`` may take.

    Returns:
        (num_rows, num_columns) int64; entry (i, j) counts the pixels with ``rows == i`` and ``columns == j``.

    Raises:
        TypeError: if a map does not hold integers.
        ValueError: if the maps differ in shape or a value is out of range.
    """
    _check("joint_histogram", rows=rows, columns=columns)
    for name, values, count in (("rows", rows, num_rows), ("columns", columns, num_columns)):
        if values.size and (values.min() < 0 or values.max() >= count):
            raise ValueError(f"joint_histogram: {name} must be in [0, {count}), got {values.min()} to {values.max()}")
    if _LIBRARY is not None:
        histogram = np.zeros((num_rows, num_columns), np.int64)
        ours, theirs = _numbers(rows), _numbers(columns)
        _LIBRARY.maskformer_ext_joint_histogram(
            ours.ctypes.data, theirs.ctypes.data, ours.size, num_columns, histogram.ctypes.data
        )
        return histogram
    index = rows.reshape(-1).astype(np.int64) * num_columns + columns.reshape(-1)
    return np.bincount(index, minlength=num_rows * num_columns).reshape(num_rows, num_columns)


def pair_areas(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the pixels of each pair of values that occurs, whatever the values are.

    Args:
        first: integer array of any shape.
        second: integer array of the same shape.

    Returns:
        (P,) int64 each: the values of both, in ascending order of pairs, and how many pixels hold them.

    Raises:
        TypeError: if a map does not hold integers.
        ValueError: if the maps differ in shape.
        MemoryError: if there are more pairs than fit in memory.
    """
    _check("pair_areas", first=first, second=second)
    if _LIBRARY is not None:
        ours, theirs, count = _numbers(first), _numbers(second), _COUNT()
        counts = _LIBRARY.maskformer_ext_pair_areas(ours.ctypes.data, theirs.ctypes.data, ours.size, count)
        if counts is None:
            raise MemoryError("pair_areas: there are too many pairs of values")
        found = tuple(np.empty(count.value, np.int64) for _ in range(3))
        _LIBRARY.maskformer_ext_pair_areas_take(counts, *(array.ctypes.data for array in found))
        return found[0], found[1], found[2]
    pairs, areas = np.unique(np.stack([first.reshape(-1), second.reshape(-1)]), axis=1, return_counts=True)
    return pairs[0].astype(np.int64), pairs[1].astype(np.int64), areas


def _check(function: str, **maps: np.ndarray) -> None:
    """Raise unless two maps hold integers and have one shape."""
    for name, values in maps.items():
        if values.dtype.kind not in "iu":
            raise TypeError(f"{function}: {name} must have an integer dtype, got {values.dtype}")
    (one, first), (other, second) = maps.items()
    if first.shape != second.shape:
        raise ValueError(f"{function}: {other} must have the shape of {one}, {first.shape}, got {second.shape}")


def _numbers(values: np.ndarray) -> np.ndarray:
    """Return the values as the library reads them: int64, one after the other."""
    return np.ascontiguousarray(values, np.int64)


def to_numpy(values: Any) -> np.ndarray:
    """Return a tensor, array or list as a NumPy array on the host."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
