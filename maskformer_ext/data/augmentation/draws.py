"""Random numbers from a generator that is passed in, so that a sample depends on nothing but its seed."""

from __future__ import annotations

import torch
from torch import Generator


def integer(count: int, generator: Generator) -> int:
    """Return one of 0 to ``count`` - 1."""
    return int(torch.randint(count, (), generator=generator))


def uniform(low: float, high: float, generator: Generator) -> float:
    """Return a number between two others."""
    return low + (high - low) * float(torch.rand((), dtype=torch.float64, generator=generator))
