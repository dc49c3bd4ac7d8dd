"""The CUDA kernel of the assignment against the CPU's, index by index."""

from __future__ import annotations

import pytest
import torch
from test_linear_sum_assignment import KINDS, make_cost

from maskformer_ext.ops import linear_sum_assignment

SHAPES = [(1, 1), (1, 4), (4, 1), (7, 3), (3, 7), (16, 16), (17, 16), (40, 9), (12, 65), (5, 130), (400, 4)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_indices_equal_the_cpus(shim, kind, shape):
    cost = torch.stack([torch.from_numpy(make_cost(kind, shape, seed)) for seed in range(3)])
    counts = torch.tensor([shape[1], max(shape[1] - 1, 0), 0])
    for dtype in (torch.float64, torch.float32):
        given = cost.to(dtype)
        assert torch.equal(shim.linear_sum_assignment(given, counts), linear_sum_assignment(given, counts))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_forbidden_pairs(shim, share):
    for queries, targets in ((9, 6), (6, 9), (33, 20)):
        cost = torch.rand(4, queries, targets)
        cost[torch.rand(cost.shape) < share] = torch.inf
        cost[:, 2] = torch.nan
        counts = torch.tensor([targets, targets - 1, targets, 1])
        ours, expected = shim.linear_sum_assignment(cost, counts), linear_sum_assignment(cost, counts)
        assert torch.equal(ours, expected)


def test_half_precision_and_empty_extents(shim):
    for dtype in (torch.bfloat16, torch.float16):
        cost = torch.rand(2, 11, 5).to(dtype)
        counts = torch.tensor([5, 3])
        assert torch.equal(shim.linear_sum_assignment(cost, counts), linear_sum_assignment(cost, counts))
    for shape in ((0, 3, 2), (2, 0, 3), (2, 3, 0)):
        counts = torch.zeros(shape[0], dtype=torch.int64)
        assert torch.equal(shim.linear_sum_assignment(torch.zeros(shape), counts), torch.full((shape[0], shape[2]), -1))
