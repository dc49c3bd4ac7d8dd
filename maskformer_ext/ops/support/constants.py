"""Small constants on a device, copied there once."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...] | tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers as a tensor that later calls share, since the host waits for a GPU that it copies to.

    Args:
        values: the numbers.
        dtype: of the result.
        device: where it lives.

    Returns:
        (len(values),); never to be changed in place.
    """
    with torch.inference_mode(False):  # otherwise the first caller decides whether autograd may ever see it
        return torch.tensor(values, dtype=dtype, device=device)


@lru_cache(maxsize=64)
def class_table(classes: tuple[int, ...], num_classes: int, device: torch.device) -> Tensor:
    """Return which of K classes are listed, (K,) bool, shared as ``constant``'s; ids out of range are left out."""
    listed = set(classes)
    return constant(tuple(int(label in listed) for label in range(num_classes)), torch.bool, device)
