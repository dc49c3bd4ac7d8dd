"""Count how often two integer maps hold each pair of values: all that mIoU and PQ need of the pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from maskformer_ext.ops.support.library import REFERENCE

try:
    from maskformer_ext import _native
except ImportError:  # the ops say how to build it; counting works without
    _native = None

_NO_VALUE_IGNORED = -1


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
        ValueError: if the maps differ in shape or a value is out of range.
    """
    if rows.shape != columns.shape:
        raise ValueError(f"joint_histogram: columns must have the shape of rows, {rows.shape}, got {columns.shape}")
    for name, values, count in (("rows", rows, num_rows), ("columns", columns, num_columns)):
        if values.size and (values.min() < 0 or values.max() >= count):
            raise ValueError(f"joint_histogram: {name} must be in [0, {count}), got {values.min()} to {values.max()}")
    if _native is not None and not REFERENCE:
        square = _native.confusion_matrix(columns, rows, max(num_rows, num_columns), _NO_VALUE_IGNORED)
        return square[:num_rows, :num_columns]
    index = rows.reshape(-1).astype(np.int64) * num_columns + columns.reshape(-1)
    return np.bincount(index, minlength=num_rows * num_columns).reshape(num_rows, num_columns)


def pair_areas(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the pixels of each pair of values that occurs, whatever the values are.

    Args:
        first: integer array of any shape.
        second: integer array of the same shape.

    Returns:
        (P,) int64 each: the values of both, in ascending order of pairs, and how many pixels hold them.
    """
    if _native is not None and not REFERENCE:
        return _native.panoptic_intersections(first, second)
    pairs, areas = np.unique(np.stack([first.reshape(-1), second.reshape(-1)]), axis=1, return_counts=True)
    return pairs[0].astype(np.int64), pairs[1].astype(np.int64), areas


def to_numpy(values: Any) -> np.ndarray:
    """Return a tensor, array or list as a NumPy array on the host."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
