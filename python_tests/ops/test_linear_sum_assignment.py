"""Assignments against SciPy's, exactly, ties included; the policy for forbidden pairs against exhaustive search."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from op_checks import at_thread_counts

from maskformer_ext.ops import linear_sum_assignment
from maskformer_ext.ops.linear_sum_assignment import _reference

SHAPES = [(1, 1), (1, 4), (4, 1), (7, 3), (3, 7), (16, 16), (17, 16), (30, 9), (100, 30), (12, 65)]
# A GPU solves these by blocks of several sizes, the last by a warp.
WIDE = [(5, 130), (400, 4), (3, 1100), (2100, 2)]
KINDS = ["uniform", "congested", "integer", "constant", "negative", "huge"]


def make_cost(kind: str, shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, *shape])
    uniform = rng.random(shape)
    if kind == "congested":  # every query likes the same targets
        return np.outer(rng.random(shape[0]), rng.random(shape[1])) + 0.05 * uniform
    return {
        "uniform": uniform,
        "integer": rng.integers(0, 3, shape).astype(float),
        "constant": np.full(shape, 0.25),
        "negative": -10.0 * uniform,
        "huge": 1e30 * uniform,
    }[kind]


def scipy_assignment(cost: np.ndarray) -> np.ndarray:
    rows, columns = pytest.importorskip("scipy.optimize").linear_sum_assignment(cost)
    expected = np.full(cost.shape[1], -1)
    expected[columns] = rows
    return expected


def solve(cost: np.ndarray, call=linear_sum_assignment) -> np.ndarray:
    return call(torch.tensor(cost), torch.tensor(cost.shape[1])).numpy()


def assert_equals_the_cpus(kernels, cost: torch.Tensor, counts: torch.Tensor) -> None:
    found = kernels.linear_sum_assignment(cost, counts)
    with kernels.of_the_cpu():
        assert torch.equal(found, linear_sum_assignment(cost, counts))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_indices_equal_scipys_even_on_ties(kind, shape):
    for seed in range(5):
        cost = make_cost(kind, shape, seed)
        np.testing.assert_array_equal(solve(cost), scipy_assignment(cost))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [*SHAPES, *WIDE, (40, 9), (100, 66)], ids=str)
def test_padded_batches_equal_the_cpus(kernels, kind, shape):
    cost = torch.stack([torch.from_numpy(make_cost(kind, shape, seed)) for seed in range(3)])
    counts = torch.tensor([shape[1], max(shape[1] - 1, 0), 0])
    for dtype in (torch.float64, torch.float32):
        assert_equals_the_cpus(kernels, cost.to(dtype), counts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(100, 30), (300, 300)], ids=str)
def test_large_problems_equal_the_cpus(kernels, kind, size):
    size = size if not kernels.slow else (size[0] // 10, size[1] // 10)
    cost = torch.stack([torch.from_numpy(make_cost(kind, size, seed)) for seed in range(8)])
    cost[3, 0] = torch.inf
    assert_equals_the_cpus(kernels, cost, torch.full((8,), size[1]))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("queries", "targets"), [(9, 6), (6, 9), (33, 20), (100, 66), *WIDE])
def test_forbidden_pairs_equal_the_cpus(kernels, share, queries, targets):
    cost = torch.rand(4, queries, targets)
    cost[torch.rand(cost.shape) < share] = torch.inf
    cost[:, 1] = torch.nan
    cost[2, :, -1] = -torch.inf  # a target without an allowed query
    counts = torch.tensor([targets, targets - 1, targets, 1])
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert_equals_the_cpus(kernels, cost.to(dtype), counts)


@pytest.mark.parametrize("shape", [(12, 12), (9, 40), (70, 70), (70, 9)], ids=str)
def test_ties_among_forbidden_pairs_equal_the_cpus(kernels, shape):
    generator = torch.Generator().manual_seed(3)
    cost = torch.randint(-1, 2, (4, *shape), generator=generator).float()
    cost[torch.rand(cost.shape, generator=generator) < 0.8] = torch.inf
    assert_equals_the_cpus(kernels, cost, torch.full((4,), shape[1]))


def test_lengths_that_overflow_equal_the_cpus(kernels):
    cost = torch.tensor([[1e308, -1e308, 1.0], [1e308, 1e308, -1e308], [-1e308, 1e308, 1e308]], dtype=torch.float64)
    assert_equals_the_cpus(kernels, torch.stack([cost, -cost, cost.T]), torch.full((3,), 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_equals_the_cpus(kernels, dtype):
    assert_equals_the_cpus(kernels, torch.rand(2, 11, 5).to(dtype), torch.tensor([5, 3]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (6, 6)])
def test_reference_equals_scipy(kind, shape):
    cost = make_cost(kind, shape)
    got = _reference(torch.tensor(cost)[None], torch.tensor([shape[1]]))[0]
    np.testing.assert_array_equal(got.numpy(), scipy_assignment(cost))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_dtypes_are_solved_as_float64_would(dtype):
    cost = torch.tensor(make_cost("uniform", (40, 40))).to(dtype)
    np.testing.assert_array_equal(solve(cost.double().numpy()), linear_sum_assignment(cost, torch.tensor(40)).numpy())


@settings(deadline=None, max_examples=200)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-1e6, 1e6) | st.integers(-2, 2).map(float),
    )
)
def test_any_finite_matrix_gives_scipys_indices(cost):
    np.testing.assert_array_equal(solve(cost), scipy_assignment(cost))


def exhaustive(cost: np.ndarray) -> tuple[int, float]:
    """The largest number of allowed pairs, and the least cost among matchings of that many."""
    if cost.shape[0] < cost.shape[1]:
        cost = cost.T
    best = (0, 0.0)
    for rows in itertools.permutations(range(cost.shape[0]), cost.shape[1]):
        values = cost[list(rows), range(cost.shape[1])]
        allowed = np.isfinite(values)
        best = min(best, (-int(allowed.sum()), float(values[allowed].sum())))
    return best


@settings(deadline=None, max_examples=150)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 5), st.integers(1, 5)),
        elements=st.sampled_from([np.inf, np.nan, -np.inf, 0.0, 1.0, 2.5, -3.0, 1e12]),
    ),
    st.booleans(),
)
def test_forbidden_pairs_leave_the_best_allowed_matching(cost, reference):
    if reference:
        got = _reference(torch.tensor(cost)[None], torch.tensor([cost.shape[1]]))[0].numpy()
    else:
        got = solve(cost)
    matched = np.flatnonzero(got >= 0)
    assert len(matched) == min(cost.shape), "leftover targets get the leftover queries"
    assert len(set(got[matched])) == len(matched)
    values = cost[got[matched], matched]
    allowed = np.isfinite(values)
    count, total = exhaustive(cost)
    assert -int(allowed.sum()) == count
    assert values[allowed].sum() == pytest.approx(total)


def test_leftover_targets_get_forbidden_queries_in_index_order(kernels):
    cost = np.full((4, 3), np.nan)
    cost[2] = [3.0, 1.0, 2.0]  # only query 2 is usable, and target 1 is the cheapest for it
    np.testing.assert_array_equal(solve(cost, call=kernels.linear_sum_assignment), [0, 2, 1])


def test_a_cheap_row_displaces_an_earlier_one_that_has_no_other_column(kernels):
    cost = np.array([[5.0, np.inf], [1.0, np.inf]])
    np.testing.assert_array_equal(solve(cost, call=kernels.linear_sum_assignment), [1, 0])


def test_padding_is_ignored_and_counts_broadcast(kernels):
    cost = torch.rand(3, 2, 8, 5, generator=torch.Generator().manual_seed(0))
    counts = torch.tensor([5, 2], dtype=torch.int32)
    spoiled = cost.clone()
    spoiled[:, 1, :, 2:] = torch.nan
    got = kernels.linear_sum_assignment(spoiled, counts)
    assert got.shape == (3, 2, 5) and got.dtype == torch.int64
    for layer, image in itertools.product(range(3), range(2)):
        n = int(counts[image])
        expected = scipy_assignment(cost[layer, image, :, :n].double().numpy())
        np.testing.assert_array_equal(got[layer, image, :n], expected)
        assert (got[layer, image, n:] == -1).all()


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3), (2, 5, 0), (0, 0, 0)])
def test_empty_extents(kernels, shape):
    got = kernels.linear_sum_assignment(torch.zeros(shape), torch.full(shape[:1], shape[2]))
    assert got.shape == (shape[0], shape[2])
    assert (got == -1).all()


def test_strided_input_and_requires_grad():
    cost = torch.rand(5, 12, 9, generator=torch.Generator().manual_seed(1), requires_grad=True)
    strided = cost.transpose(1, 2)[:, ::2]
    got = linear_sum_assignment(strided, torch.tensor(12))
    assert not got.requires_grad
    assert torch.equal(got, linear_sum_assignment(strided.contiguous(), torch.tensor(12)))


def test_the_number_of_threads_does_not_matter():
    cost = torch.rand(64, 50, 20, generator=torch.Generator().manual_seed(2))
    counts = torch.arange(64) % 21
    at_thread_counts(lambda: linear_sum_assignment(cost, counts))


def test_compiles_without_graph_breaks():
    compiled = torch.compile(linear_sum_assignment, fullgraph=True, backend="aot_eager", dynamic=True)
    for shape in [(2, 3, 10, 4), (2, 3, 12, 7)]:
        cost = torch.rand(shape)
        counts = torch.tensor([1, 2, 4])
        assert torch.equal(compiled(cost, counts), linear_sum_assignment(cost, counts))


@pytest.mark.parametrize(
    ("cost", "counts", "error", "message"),
    [
        (torch.zeros(3), torch.tensor(3), ValueError, r"^linear_sum_assignment: cost .* Q, T\), got shape \(3,\)"),
        (torch.zeros(2, 3, 4), torch.zeros(3, dtype=torch.int64), ValueError, r"must broadcast .* \(2,\) .* \(3,\)"),
        (torch.zeros(3, 4, dtype=torch.int64), torch.tensor(4), TypeError, "cost must have a floating dtype"),
        (torch.zeros(3, 4), torch.tensor(4.0), TypeError, "num_targets must have an integer dtype"),
        (torch.zeros(3, 4), torch.tensor(5), ValueError, r"must lie in \[0, T\] with T = 4, got 5 for problem 0"),
        (torch.zeros(3, 4), torch.tensor(-1), ValueError, r"must lie in \[0, T\] with T = 4, got -1 for problem 0"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(cost, counts, error, message):
    with pytest.raises(error, match=message):
        linear_sum_assignment(cost, counts)
