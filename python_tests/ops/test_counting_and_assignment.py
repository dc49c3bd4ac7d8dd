"""The NumPy bindings against plain NumPy."""

import numpy as np
import pytest

_native = pytest.importorskip("maskformer_ext._native", reason="built without pybind11")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_confusion_matrix_counts_by_truth_and_prediction(dtype):
    rng = np.random.default_rng(1)
    prediction = rng.integers(0, 5, (13, 17)).astype(dtype)
    truth = rng.integers(0, 5, (13, 17)).astype(dtype)
    truth[rng.random(truth.shape) < 0.2] = 255 if dtype == np.uint8 else 200
    ignore = 255 if dtype == np.uint8 else 200
    got = _native.confusion_matrix(prediction, truth, 5, ignore)
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
def test_confusion_matrix_names_what_is_wrong(prediction, truth, error, message):
    with pytest.raises(error, match=message):
        _native.confusion_matrix(np.array(prediction), np.array(truth), 5, 255)


def test_panoptic_intersections_count_every_pair():
    rng = np.random.default_rng(2)
    prediction = np.repeat(rng.integers(-1, 40, (30, 10)), 5, axis=1)
    truth = rng.integers(0, 3, prediction.shape).cumsum(axis=1) // 30 * 1000
    pairs, counts = np.unique(np.stack([prediction.ravel(), truth.ravel()]), axis=1, return_counts=True)
    got = _native.panoptic_intersections(prediction, truth)
    np.testing.assert_array_equal(np.stack(got[:2]), pairs)
    np.testing.assert_array_equal(got[2], counts)


def test_build_info_names_compiler_and_instruction_set():
    info = _native.build_info()
    assert info["cpu"] in ("baseline", "avx2", "avx512")
    assert info["compiler"]
