"""Pair counts: the native module and NumPy agree, and values out of range are refused."""

from __future__ import annotations

import numpy as np
import pytest

from maskformer_ext.ops import counting


@pytest.fixture
def native():
    return pytest.importorskip("maskformer_ext._native", reason="built without pybind11")


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


@pytest.mark.parametrize("by_numpy", [False, True])
def test_empty_maps_count_nothing(monkeypatch: pytest.MonkeyPatch, by_numpy: bool) -> None:
    if by_numpy:
        monkeypatch.setattr(counting, "_native", None)
    empty = np.zeros((0, 4), dtype=np.int64)
    np.testing.assert_array_equal(counting.joint_histogram(empty, empty, 2, 3), np.zeros((2, 3)))


@pytest.mark.parametrize(("rows", "message"), [([[0, 2]], r"rows must be in \[0, 2\), got 0 to 2"), ([[0]], "shape")])
def test_unfit_maps_are_refused(rows: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        counting.joint_histogram(np.array(rows), np.array([[0, 1]]), 2, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_confusion_matrix_counts_by_truth_and_prediction(native, dtype):
    rng = np.random.default_rng(1)
    prediction = rng.integers(0, 5, (13, 17)).astype(dtype)
    truth = rng.integers(0, 5, (13, 17)).astype(dtype)
    truth[rng.random(truth.shape) < 0.2] = 255 if dtype == np.uint8 else 200
    ignore = 255 if dtype == np.uint8 else 200
    got = native.confusion_matrix(prediction, truth, 5, ignore)
    keep = truth != ignore
    expected = np.bincount(truth[keep].astype(int) * 5 + prediction[keep], minlength=25).reshape(5, 5)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("prediction", "truth", "error", "message"),
    [
        ([[0, 5]], [[0, 0]], ValueError, r"prediction must lie in \[0, 5\), got 5"),
        ([[0, 0]], [[-1, 0]], ValueError, r"truth must lie in \[0, 5\), got -1"),
        ([[0, 0]], [[0], [0]], ValueError, r"same shape, got \(1, 2\) and \(2, 1\)"),
        ([[0.5, 0]], [[0, 0]], TypeError, "prediction must have an integer dtype, got float64"),
    ],
)
def test_confusion_matrix_names_what_is_wrong(native, prediction, truth, error, message):
    with pytest.raises(error, match=message):
        native.confusion_matrix(np.array(prediction), np.array(truth), 5, 255)


def test_panoptic_intersections_count_every_pair(native):
    rng = np.random.default_rng(2)
    prediction = np.repeat(rng.integers(-1, 40, (30, 10)), 5, axis=1)
    truth = rng.integers(0, 3, prediction.shape).cumsum(axis=1) // 30 * 1000
    pairs, counts = np.unique(np.stack([prediction.ravel(), truth.ravel()]), axis=1, return_counts=True)
    got = native.panoptic_intersections(prediction, truth)
    np.testing.assert_array_equal(np.stack(got[:2]), pairs)
    np.testing.assert_array_equal(got[2], counts)


def test_build_info_names_compiler_and_instruction_set(native):
    info = native.build_info()
    assert info["cpu"] in ("baseline", "avx2", "avx512")
    assert info["compiler"]
