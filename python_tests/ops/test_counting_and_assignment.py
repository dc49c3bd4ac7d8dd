"""The NumPy bindings against SciPy and plain NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskformer_ext import ops

_native = pytest.importorskip("maskformer_ext._native", reason="built without pybind11")
scipy_optimize = pytest.importorskip("scipy.optimize")

COSTS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 8), st.integers(0, 8)),
    elements=st.floats(-100, 100) | st.sampled_from([0.0, 1.0, np.inf, -np.inf, np.nan]),
)


@settings(deadline=None, max_examples=300)
@given(COSTS, st.booleans())
def test_linear_sum_assignment_is_scipys_results_and_errors(cost, maximize):
    try:
        expected = scipy_optimize.linear_sum_assignment(cost, maximize)
    except ValueError as error:
        with pytest.raises(ValueError, match=f"^{error}$"):
            _native.linear_sum_assignment(cost, maximize)
        return
    for got, want in zip(_native.linear_sum_assignment(cost, maximize), expected, strict=True):
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got, want)


def test_linear_sum_assignment_takes_lists_integers_and_strides():
    cost = np.arange(24).reshape(4, 6)[:, ::-2] % 7
    for form in (cost, cost.tolist(), cost.astype(np.uint8), np.asfortranarray(cost), cost > 3):
        got = _native.linear_sum_assignment(form)
        np.testing.assert_array_equal(got, scipy_optimize.linear_sum_assignment(form))


def test_linear_sum_assignment_refuses_what_is_no_matrix():
    with pytest.raises(ValueError, match=r"expected a matrix \(2-D array\), got a 1 array"):
        _native.linear_sum_assignment(np.zeros(3))


def test_batch_equals_the_op():
    cost = np.random.default_rng(0).random((6, 9, 7))
    cost[2, 3:] = np.nan
    counts = np.array([7, 0, 5, 7, 1, 3])
    expected = ops.linear_sum_assignment(torch.tensor(cost), torch.tensor(counts))
    np.testing.assert_array_equal(_native.linear_sum_assignment_batch(cost, counts), expected.numpy())
    with pytest.raises(ValueError, match=r"num_targets must lie in \[0, T\] with T = 7, got 8 for problem 1"):
        _native.linear_sum_assignment_batch(cost, np.array([7, 8, 5, 7, 1, 3]))


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


SQUARE = np.array([[4.0, 1.0], [2.0, 3.0]])
FORMS = {
    "float32": SQUARE.astype(np.float32),
    "float16": SQUARE.astype(np.float16),
    "int64": SQUARE.astype(np.int64),
    "bool": SQUARE > 2,
    "big endian": SQUARE.astype(">f8"),
    "longdouble": SQUARE.astype(np.longdouble),
    "complex": SQUARE + 0j,
    "text": SQUARE.astype(str),
    "bytes": SQUARE.astype(bytes),
    "objects": SQUARE.astype(object),
    "texts in objects": SQUARE.astype(str).astype(object),
    "None": None,
    "dates": np.zeros((2, 2), "M8[s]"),
    "durations": SQUARE.astype("m8[s]"),
    "records": np.zeros((2, 2), [("a", "f8")]),
    "no text": np.zeros((0, 0), str),
    "a word": "abc",
    "a number": 3.0,
    "ragged lists": [[1, 2], [3]],
    "lists of text": [["4", "1"], ["2", "3"]],
    "a mapping": {},
    "no rows": np.zeros((0, 3)),
    "one dimension": SQUARE[0],
    "three dimensions": SQUARE[None],
    "masked": np.ma.masked_array(SQUARE, SQUARE > 2),
}


@pytest.mark.parametrize("maximize", [False, True, 1, 0, "yes", "", None, [], np.ones(2)], ids=str)
@pytest.mark.parametrize("name", FORMS)
def test_linear_sum_assignment_takes_and_refuses_what_scipys_does(name, maximize):
    try:
        expected = scipy_optimize.linear_sum_assignment(FORMS[name], maximize)
    except (TypeError, ValueError) as error:
        with pytest.raises((TypeError, ValueError)) as caught:
            _native.linear_sum_assignment(FORMS[name], maximize)
        assert caught.type is type(error) and str(caught.value) == str(error)
        return
    for got, want in zip(_native.linear_sum_assignment(FORMS[name], maximize), expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_batch_of_text_is_refused():
    with pytest.raises(TypeError, match="Cannot cast array data"):
        _native.linear_sum_assignment_batch(np.zeros((1, 2, 2)).astype(str), np.array([2]))
