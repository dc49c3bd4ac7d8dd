"""Pair counts: native and NumPy agree, and values out of range are refused."""

from __future__ import annotations

import numpy as np
import pytest

from maskformer_ext.ops import counting


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
@pytest.mark.parametrize(("num_rows", "num_columns"), [(1, 1), (5, 2), (3, 300)])
def test_native_and_numpy_count_alike(monkeypatch: pytest.MonkeyPatch, dtype, num_rows: int, num_columns: int) -> None:
    random = np.random.default_rng(0)
    rows = random.integers(0, num_rows, (13, 40)).astype(dtype)
    columns = random.integers(0, num_columns, (40, 13)).T.astype(np.int64)  # not contiguous
    found = counting.joint_histogram(rows, columns, num_rows, num_columns)
    monkeypatch.setattr(counting, "_native", None)
    np.testing.assert_array_equal(counting.joint_histogram(rows, columns, num_rows, num_columns), found)
    assert found.shape == (num_rows, num_columns) and found.sum() == rows.size
    assert found[num_rows - 1, 0] == ((rows == num_rows - 1) & (columns == 0)).sum()


@pytest.mark.parametrize("native", [True, False])
def test_empty_maps_count_nothing(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    if not native:
        monkeypatch.setattr(counting, "_native", None)
    empty = np.zeros((0, 4), dtype=np.int64)
    np.testing.assert_array_equal(counting.joint_histogram(empty, empty, 2, 3), np.zeros((2, 3)))


@pytest.mark.parametrize(("rows", "message"), [([[0, 2]], r"rows must be in \[0, 2\), got 0 to 2"), ([[0]], "shape")])
def test_unfit_maps_are_refused(rows: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        counting.joint_histogram(np.array(rows), np.array([[0, 1]]), 2, 2)
