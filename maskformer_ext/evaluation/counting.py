"""Count how often two integer maps hold each pair of values: all that mIoU and PQ need of the pixels."""

from __future__ import annotations

import numpy as np


def joint_histogram(rows: np.ndarray, columns: np.ndarray, num_rows: int, num_columns: int) -> np.ndarray:
    """Count the pixels of each pair of values of two maps.

    Args:
        rows: integer array of any shape, values in [0, num_rows); pixels with a value outside are left out.
        columns: integer array of the same shape, values in [0, num_columns), likewise.
        num_rows: how many values ``rows`` may take.
        num_columns: how many values ``columns`` may take.

    Returns:
        (num_rows, num_columns) int64; entry (i, j) counts the pixels with ``rows == i`` and ``columns == j``.

    Raises:
        ValueError: if the maps differ in shape.
    """
    if rows.shape != columns.shape:
        raise ValueError(f"joint_histogram: columns must have the shape of rows, {rows.shape}, got {columns.shape}")
    rows, columns = rows.reshape(-1).astype(np.int64), columns.reshape(-1).astype(np.int64)
    inside = (rows >= 0) & (rows < num_rows) & (columns >= 0) & (columns < num_columns)
    index = rows * num_columns + columns
    if not inside.all():
        index = index[inside]
    return np.bincount(index, minlength=num_rows * num_columns).reshape(num_rows, num_columns)


def to_numpy(values) -> np.ndarray:
    """Return a tensor, array or list as a NumPy array on the host."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
