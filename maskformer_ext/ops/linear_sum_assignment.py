"""Minimum-cost assignment of queries to segments, for all images and decoder layers in one call."""

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.ops._checks import check_floating, check_integer, shape
from maskformer_ext.ops._library import native, register

_OP = "linear_sum_assignment"


def linear_sum_assignment(cost: Tensor, num_targets: Tensor) -> Tensor:
    """Assign to each target the query that makes the total cost least.

    NaN and infinite costs forbid a pair. As many allowed pairs as possible are formed, at the least total cost; targets
    left over then get the queries left over, both in index order, so that min(Q, num_targets) targets are always matched.

    Args:
        cost: (..., Q, T), any floating dtype; solved in float64. Leading dimensions are independent problems.
        num_targets: integer tensor that broadcasts against (...): how many of the T columns are targets, the rest is
            padding.

    Returns:
        (..., T) int64, the query of each target; -1 for padding and, where there are more targets than queries, for the
        unmatched ones. Among equally cheap assignments the one that SciPy's `linear_sum_assignment` gives.

    Raises:
        ValueError: cost has fewer than two dimensions, or num_targets does not broadcast against its leading ones.
        TypeError: cost is not floating, or num_targets not integer.
        RuntimeError: an entry of num_targets lies outside [0, T].

    Source: D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE TAES 52 (2016), section III.
    """
    check_floating(_OP, cost=cost)
    check_integer(_OP, num_targets=num_targets)
    if cost.dim() < 2:
        raise ValueError(f"{_OP}: cost must be (..., Q, T), got shape {shape(cost)}")
    leading = cost.shape[:-2]
    try:
        num_targets = num_targets.expand(leading)
    except RuntimeError:
        raise ValueError(
            f"{_OP}: num_targets must broadcast against the leading dimensions {tuple(leading)} of cost, "
            f"got shape {shape(num_targets)}"
        ) from None
    problems = cost.detach().reshape(-1, *cost.shape[-2:])
    counts = num_targets.reshape(-1).to(device=cost.device, dtype=torch.int64)
    # The kernel computes in float64 whatever the dtype, so float64 costs need no reference.
    solve = torch.ops.maskformer_ext.linear_sum_assignment if native(_OP, counts) else _reference
    return solve(problems, counts).reshape(*leading, cost.shape[-1])


def _fake(cost: Tensor, num_targets: Tensor) -> Tensor:
    return cost.new_empty((cost.shape[0], cost.shape[2]), dtype=torch.int64)


def _reference(cost: Tensor, num_targets: Tensor) -> Tensor:
    raise NotImplementedError


register(_OP, fake=_fake)
