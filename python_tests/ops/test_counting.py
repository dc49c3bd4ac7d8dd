"""Pair counts: the native module and NumPy agree, and values out of range are refused."""

from __future__ import annotations

import numpy as np
import pytest

from maskformer_ext.ops import counting
from maskformer_ext.ops.support.library import CPU_ERROR, REFERENCE, build_info


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
@pytest.mark.parametrize(("num_rows", "num_columns"), [(1, 1), (5, 2), (3, 300)])
def test_native_and_numpy_count_alike(monkeypatch: pytest.MonkeyPatch, dtype, num_rows: int, num_columns: int) -> None:
    random = np.random.default_rng(0)
    rows = random.integers(0, num_rows, (13, 40)).astype(dtype)
    columns = random.integers(0, num_columns, (40, 13)).T.astype(np.int64)  # not contiguous
    found = counting.joint_histogram(rows, columns, num_rows, num_columns)
    monkeypatch.setattr(counting, "_LIBRARY", None)
    np.testing.assert_array_equal(counting.joint_histogram(rows, columns, num_rows, num_columns), found)
    assert found.shape == (num_rows, num_columns) and found.sum() == rows.size
    assert found[num_rows - 1, 0] == ((rows == num_rows - 1) & (columns == 0)).sum()


@pytest.mark.parametrize("by_numpy", [False, True])
def test_empty_maps_count_nothing(monkeypatch: pytest.MonkeyPatch, by_numpy: bool) -> None:
    if by_numpy:
        monkeypatch.setattr(counting, "_LIBRARY", None)
    empty = np.zeros((0, 4), dtype=np.int64)
    np.testing.assert_array_equal(counting.joint_histogram(empty, empty, 2, 3), np.zeros((2, 3)))


@pytest.mark.parametrize(("rows", "message"), [([[0, 2]], r"rows must be in \[0, 2\), got 0 to 2"), ([[0]], "shape")])
def test_unfit_maps_are_refused(rows: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        counting.joint_histogram(np.array(rows), np.array([[0, 1]]), 2, 2)


@pytest.mark.parametrize("count", [lambda a, b: counting.joint_histogram(a, b, 9, 9), counting.pair_areas])
def test_unfit_arguments_are_refused_by_name(count) -> None:
    whole = np.zeros((2, 3), np.int64)
    with pytest.raises(TypeError, match=r": (rows|first) must have an integer dtype, got float64"):
        count(whole.astype(float), whole)
    with pytest.raises(ValueError, match=r"must have the shape of (rows|first), \(2, 3\), got \(3, 2\)"):
        count(whole, whole.T)


@pytest.mark.parametrize("by_numpy", [False, True])
@pytest.mark.parametrize("dtype", [np.int16, np.int64])
def test_every_pair_is_counted(monkeypatch: pytest.MonkeyPatch, by_numpy: bool, dtype) -> None:
    if by_numpy:
        monkeypatch.setattr(counting, "_LIBRARY", None)
    random = np.random.default_rng(2)
    first = np.repeat(random.integers(-1, 40, (30, 10)), 5, axis=1).astype(dtype)
    second = (random.integers(0, 3, first.shape).cumsum(axis=1) // 30 * 1000).astype(dtype)
    pairs, counts = np.unique(np.stack([first.ravel(), second.ravel()]), axis=1, return_counts=True)
    ours = counting.pair_areas(first, second)
    np.testing.assert_array_equal(np.stack(ours[:2]), pairs)
    np.testing.assert_array_equal(ours[2], counts)
    assert all(array.dtype == np.int64 for array in ours)


@pytest.mark.skipif(CPU_ERROR is not None or REFERENCE, reason="no kernels")
def test_the_build_is_described() -> None:
    assert build_info()["cpu"] in ("baseline", "avx2", "avx512") and build_info()["compiler"]
