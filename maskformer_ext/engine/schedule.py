"""The factor on every learning rate, as a pure function of the iteration."""

from __future__ import annotations

import math
from bisect import bisect_right

import torch

from maskformer_ext.config import ScheduleConfig


def learning_rate_factor(iteration: int, max_iters: int, config: ScheduleConfig) -> float:
    """Return what the base learning rates are multiplied with in an iteration.

    Args:
        iteration: counted from 0, smaller than ``max_iters``.
        max_iters: the length of the whole training.
        config: name of the schedule (poly, step or cosine) and its parameters.

    Returns:
        The factor; in the first ``warmup_iters`` iterations it is multiplied with a line from ``warmup_factor`` to 1.

    Source: poly is (1 - t / max)^power (DeepLab, section 4.1); cosine is (1 + cos(pi t / max)) / 2 (SGDR, equation 5).
    """
    progress = min(iteration / max(max_iters, 1), 1.0)
    if config.name == "poly":
        factor = (1.0 - progress) ** config.power
    elif config.name == "cosine":
        factor = 0.5 * (1.0 + math.cos(math.pi * progress))
    elif config.name == "step":
        factor = config.gamma ** bisect_right(sorted(config.steps), iteration)
    else:
        raise ValueError(f"learning_rate_factor: name must be poly, step or cosine, got {config.name!r}")
    if iteration < config.warmup_iters:
        warm = iteration / config.warmup_iters
        factor *= config.warmup_factor * (1.0 - warm) + warm
    return factor


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of every group to ``factor`` times the one that it was built with."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
