"""Class logits at the stride of a network: how a per-pixel baseline's reach the size of its input."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def stride_of(logits: Tensor, height: int) -> int:
    """Return the integer stride of (..., h, w) logits in a network input of this height."""
    return -(-height // logits.shape[-2])


def enlarge(logits: Tensor, height: int) -> Tensor:
    """Resize a per-pixel baseline's logits by their stride, as the original does.

    Args:
        logits: (B, K, h, w).
        height: of the network input.

    Returns:
        (B, K, h * stride, w * stride) float32. What rounding up added lies at the right and bottom, to be cut off.
    """
    stride = stride_of(logits, height)
    size = [side * stride for side in logits.shape[-2:]]
    return F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
