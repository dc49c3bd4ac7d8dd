"""linear_sum_assignment against a loop over scipy's and against lapx or lap, on easy and on congested costs.

On a GPU the costs lie there and the assignment stays there. So scipy's loop copies both ways.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.case import Case, case_name, optional
from maskformer_ext.ops import linear_sum_assignment

SMALL = {"problems": 2, "queries": 5, "targets": 3}
ON_GPU = [
    {"problems": problems, "queries": queries, "targets": targets, "costs": costs}
    for problems, queries, targets in ((96, 100, 20), (208, 300, 100), (208, 300, 300))
    for costs in ("uniform", "congested")
]


def lap_peers(lap: Any, arrays: np.ndarray, doubles: np.ndarray) -> dict[str, Any]:
    """Return the solvers that the module `lap` has. Two packages go by that name, and releases of both differ.

    Args:
        lap: the module of `lapx` or of `lap`, or None where neither is installed.
        arrays: costs (problems, queries, targets) float32.
        doubles: the same in float64, for solvers that would copy to it.
    """

    def jonker_volgenant(matrices):
        # Every release of both packages returns (cost, column of each row, row of each column).
        rows = [lap.lapjv(matrix, extend_cost=True)[2] for matrix in matrices]
        return [
            (row[: matrix.shape[1]], np.arange(matrix.shape[1])) for row, matrix in zip(rows, matrices, strict=True)
        ]

    def single(solver, matrices):
        return [solver(matrix, extend_cost=True, return_cost=False) for matrix in matrices]

    def batch(solver, matrices):
        threads = torch.get_num_threads()
        return list(zip(*solver(matrices, extend_cost=True, return_cost=False, n_threads=threads), strict=True))

    kinds = {
        "lapjvx": ("lapx lapjvx, a loop", single, doubles),
        "lapjvr": ("lapx lapjvr, a loop", single, arrays),
        "lapjvr_batch": ("lapx lapjvr_batch", batch, arrays),
        "lapjvx_batch": ("lapx lapjvx_batch", batch, doubles),
    }
    found = {
        name: partial(call, getattr(lap, solver), matrices)
        for solver, (name, call, matrices) in kinds.items()
        if hasattr(lap, solver)
    }
    if not found and hasattr(lap, "lapjv"):
        found["lap lapjv, a loop"] = partial(jonker_volgenant, doubles)
    return found


def build(*, device: str, problems: int, queries: int, targets: int, costs: str) -> Case:
    """Make costs (problems, queries, targets).

    `uniform` costs are independent. `congested` ones have rank one and 5% noise: every query likes the same targets, as
    early in training.
    """
    generator = torch.Generator().manual_seed(2)
    cost = torch.rand(problems, queries, targets, generator=generator)
    if costs == "congested":
        rows = torch.rand(problems, queries, 1, generator=generator)
        cost = rows * torch.rand(problems, 1, targets, generator=generator) + 0.05 * cost
    lap, scipy = optional("lap"), optional("scipy.optimize")
    arrays = cost.numpy()
    doubles = arrays.astype(np.float64)
    on_device = cost.to(device)
    counts = torch.full((problems,), targets, device=device)

    def ours():
        return linear_sum_assignment(on_device, counts)

    def scipy_loop():
        found = [scipy.linear_sum_assignment(matrix) for matrix in on_device.cpu().numpy()]
        if device == "cuda":
            torch.from_numpy(np.stack([np.stack(pair) for pair in found])).to(device)
        return found

    peers = {"scipy, a loop": scipy_loop} if scipy else {}
    if device == "cpu":
        peers |= lap_peers(lap, arrays, doubles)

    def error(assignment, peer) -> float:
        """Compare total costs: where costs tie, several assignments are right."""
        columns = np.arange(targets)
        worst = 0.0
        for matrix, rows, (peer_rows, peer_columns) in zip(doubles, assignment.cpu().numpy(), peer, strict=True):
            total, reference = matrix[rows, columns].sum(), matrix[peer_rows, peer_columns].sum()
            if len(set(rows.tolist())) != targets:
                return float("inf")
            worst = max(worst, abs(total - reference) / abs(reference))
        return worst

    return Case(
        op="linear_sum_assignment",
        title=f"{problems} problems of {queries}x{targets}, {costs} costs",
        ours=ours,
        peers=peers,
        tolerance=1e-6,
        inputs={"cost": on_device},
        error=error,
        no_peer="neither scipy nor lapx nor lap is installed",
        notes=("float64 copies of the costs were made beforehand for the peers that would copy to float64",),
    )


@pytest.mark.parametrize("costs", ["uniform", "congested"])
@pytest.mark.parametrize(("problems", "queries", "targets"), [(96, 100, 30), (16, 300, 300)])
def test_linear_sum_assignment(compare, problems, queries, targets, costs):
    """All images and decoder layers of a step in one call, and few but large problems."""
    compare(outside=False, problems=problems, queries=queries, targets=targets, costs=costs)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_linear_sum_assignment_on_a_gpu(compare_on_gpu, parameters):
    """All layers of 16 images, and two sizes that other GPU solvers publish."""
    compare_on_gpu(**parameters)
