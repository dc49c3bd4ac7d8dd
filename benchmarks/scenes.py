"""Generated segments and predictions, as inputs of benchmarks."""

from __future__ import annotations

import torch
from torch import Tensor


def segment_maps(images: int, segments: int, size: int, seed: int = 0) -> Tensor:
    """Draw segments as the cells nearest to random points, each image with some void at its border.

    Returns:
        (images, size, size) int32, the index of the segment that owns the pixel, -1 for void.
    """
    generator = torch.Generator().manual_seed(seed)
    line = torch.arange(size, dtype=torch.float32)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(-1, 2)
    maps = []
    for _ in range(images):
        points = size * torch.rand(segments, 2, generator=generator)
        owner = torch.cdist(grid, points).argmin(1).int().view(size, size)
        owner[:, : size // 32] = -1
        maps.append(owner)
    return torch.stack(maps)


def masks_of(segment_map: Tensor, segments: int) -> Tensor:
    """Expand (H, W) indices to (segments, H, W) bool masks."""
    return segment_map == torch.arange(segments, device=segment_map.device).view(-1, 1, 1)


def logits_for(masks: Tensor, size: int, seed: int = 0) -> Tensor:
    """Make predictions of masks that are right in most places: (N, H, W) bool -> (N, size, size) float32 logits."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.nn.functional.interpolate(masks[:, None].float(), (size, size), mode="area")[:, 0]
    return 6 * (small - 0.5) + 1.5 * torch.randn(small.shape, generator=generator)
