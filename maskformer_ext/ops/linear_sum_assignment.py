"""Minimum-cost assignment of queries to segments, for all images and decoder layers in one call."""

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.ops.support import value_checks
from maskformer_ext.ops.support.checks import check_floating, check_integer, check_same_device, shape
from maskformer_ext.ops.support.library import native, register

_OP = "linear_sum_assignment"


def linear_sum_assignment(cost: Tensor, num_targets: Tensor) -> Tensor:
    """Assign to each target the query that makes the total cost least.

    NaN and infinite costs forbid a pair. As many allowed pairs as possible are formed, at the least total cost. Targets
    left over then get the queries left over, both in index order. So min(Q, num_targets) are always matched.

    Args:
        cost: (..., Q, T), any floating dtype; solved in float64. Leading dimensions are independent problems.
        num_targets: integer tensor that broadcasts against (...): how many of the T columns are targets, the rest is
            padding.

    Returns:
        (..., T) int64, the query of each target; -1 for padding and, where there are more targets than queries, for the
        unmatched ones. Among equally cheap assignments the one that SciPy's `linear_sum_assignment` gives.

    Raises:
        ValueError: cost has fewer than two dimensions, num_targets does not broadcast against its leading ones, or the
            two are on different devices.
        ValueError: an entry of num_targets lies outside [0, T] (on a GPU it is clamped unless
            `MASKFORMER_EXT_CHECKS=1`).
        TypeError: cost is not floating, or num_targets not integer.

    Source: D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE TAES 52 (2016), section III.
    """
    check_floating(_OP, cost=cost)
    check_integer(_OP, num_targets=num_targets)
    check_same_device(_OP, cost=cost, num_targets=num_targets)
    if cost.dim() < 2:
        raise ValueError(f"{_OP}: cost must be (..., Q, T), got shape {shape(cost)}")
    leading = tuple(cost.shape[:-2])
    pairs = zip(reversed(num_targets.shape), reversed(leading), strict=False)
    if num_targets.dim() > len(leading) or not all(n in (1, size) for n, size in pairs):
        raise ValueError(
            f"{_OP}: num_targets must broadcast against the leading dimensions {leading} of cost, "
            f"got shape {shape(num_targets)}"
        )
    problems = cost.detach().flatten(0, -3) if leading else cost.detach()[None]
    counts = num_targets.expand(leading).reshape(-1).to(torch.int64)
    return _solve(problems, counts).reshape(*leading, cost.shape[-1])


def _solve(cost: Tensor, num_targets: Tensor) -> Tensor:
    # The kernel computes in float64, so that float64 costs need no reference: only the device is asked for.
    if native(_OP, num_targets):
        return value_checks.call_checked(
            torch.ops.maskformer_ext.linear_sum_assignment,
            cost,
            num_targets,
            device=num_targets.device,
            check=lambda: value_checks.check_num_targets(_OP, num_targets, cost.shape[-1]),
        )
    if cost.is_meta:
        return _fake(cost, num_targets)
    if native(_OP, num_targets.cpu()):  # a device without the kernel
        return torch.ops.maskformer_ext.linear_sum_assignment(cost.cpu(), num_targets.cpu()).to(cost.device)
    return _reference(cost, num_targets)


def _fake(cost: Tensor, num_targets: Tensor) -> Tensor:
    return cost.new_empty((cost.shape[0], cost.shape[2]), dtype=torch.int64)


register(_OP, fake=_fake)


def _reference(cost: Tensor, num_targets: Tensor) -> Tensor:
    """Solve each of (N, Q, T) on the host with NumPy."""
    value_checks.check_num_targets(_OP, num_targets, cost.shape[-1])
    assignment = np.full((cost.shape[0], cost.shape[2]), -1, dtype=np.int64)
    for i, (matrix, count) in enumerate(zip(cost.detach().double().cpu().numpy(), num_targets.tolist(), strict=True)):
        if count < cost.shape[1]:  # SciPy transposes where there are fewer columns than rows
            assignment[i, :count], _ = _shortest_augmenting_paths(matrix[:, :count].T)
        else:
            _, assignment[i, :count] = _shortest_augmenting_paths(matrix[:, :count])
    return torch.from_numpy(assignment).to(cost.device)


def _shortest_augmenting_paths(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match the rows of a (rows, columns) matrix with no more rows than columns; return both directions, -1 unmatched.

    Costs are compared as (pairs given up, cost). Behind the columns stands one more per row, of cost (1, 0). A row
    takes it when no allowed column is left.
    """
    rows, columns = cost.shape
    allowed = np.concatenate([np.isfinite(cost), np.eye(rows, dtype=bool)], axis=1)
    given_up = np.concatenate([np.zeros(columns), np.ones(rows)])
    cost = np.concatenate([np.where(np.isfinite(cost), cost, 0.0), np.zeros((rows, rows))], axis=1)
    row_potential = np.zeros((2, rows))  # (given up, cost)
    column_potential = np.zeros((2, columns + rows))
    column_of_row = np.full(rows, -1)
    row_of_column = np.full(columns + rows, -1)
    for start in range(rows):
        distance = np.full((2, columns + rows), np.inf)
        predecessor = np.full(columns + rows, -1)
        remaining = list(reversed(range(columns + rows)))
        closed: list[int] = []
        base, row = np.zeros(2), start
        while True:
            reduced = base[:, None] + np.stack([given_up, cost[row]]) - row_potential[:, row, None] - column_potential
            shorter = (reduced[0] < distance[0]) | ((reduced[0] == distance[0]) & (reduced[1] < distance[1]))
            shorter &= allowed[row]
            shorter[closed] = False
            distance[:, shorter] = reduced[:, shorter]
            predecessor[shorter] = row
            order = np.array(remaining)
            nearest = order[_smallest(distance[:, order])]
            free = nearest[row_of_column[nearest] < 0]
            column = free[-1] if len(free) else nearest[0]
            base = distance[:, column].copy()
            if row_of_column[column] < 0:
                break
            closed.append(column)
            remaining[remaining.index(column)] = remaining[-1]
            remaining.pop()
            row = row_of_column[column]
        row_potential[:, start] += base
        for j in closed:
            row_potential[:, row_of_column[j]] += base - distance[:, j]
            column_potential[:, j] -= base - distance[:, j]
        while True:
            row = predecessor[column]
            row_of_column[column] = row
            column_of_row[row], column = column, column_of_row[row]
            if row == start:
                break
    column_of_row[column_of_row >= columns] = -1
    row_of_column = row_of_column[:columns]
    left_rows, left_columns = np.flatnonzero(column_of_row < 0), np.flatnonzero(row_of_column < 0)
    left = min(len(left_rows), len(left_columns))
    column_of_row[left_rows[:left]] = left_columns[:left]
    row_of_column[left_columns[:left]] = left_rows[:left]
    return column_of_row, row_of_column


def _smallest(values: np.ndarray) -> np.ndarray:
    """Return the places of the lexicographically least columns of a (2, n) array."""
    first = values[0] == values[0].min()
    return np.flatnonzero(first & (values[1] == values[1][first].min()))
