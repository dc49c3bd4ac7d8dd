"""Generated segments and predictions, as inputs of benchmarks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


def segment_maps(images: int, segments: int | list[int], size: int, seed: int = 0, device: str = "cpu") -> Tensor:
    """Draw segments as the cells nearest to random points, each image with some void at its border.

    Args:
        images: how many.
        segments: the number in every image, or a list with one number per image.
        size: height and width.
        seed: of the points.
        device: where to draw. The points are the same on each; cells may differ in a pixel.

    Returns:
        (images, size, size) int32: the index of the segment that owns the pixel, -1 for void.
    """
    generator = torch.Generator().manual_seed(seed)
    line = torch.arange(size, dtype=torch.float32, device=device)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(-1, 2)
    maps = []
    for count in [segments] * images if isinstance(segments, int) else segments:
        points = size * torch.rand(count, 2, generator=generator)
        owner = torch.cdist(grid, points.to(device)).argmin(1).int().view(size, size)
        owner[:, : size // 32] = -1
        maps.append(owner)
    return torch.stack(maps)


def segment_counts(images: int, segments: int, largest: int | None) -> list[int]:
    """Return the number of segments per image.

    All images have `segments`. With `largest` one image has that many, and the others share the rest. The sum is at
    most images x segments, and each image has at least one.
    """
    if largest is None or images == 1:
        return [segments] * images
    largest = min(largest, images * segments - (images - 1))
    return [largest] + [(images * segments - largest) // (images - 1)] * (images - 1)


def masks_of(segment_map: Tensor, segments: int) -> Tensor:
    """Expand (H, W) indices to (segments, H, W) bool masks."""
    return segment_map == torch.arange(segments, device=segment_map.device).view(-1, 1, 1)


def logits_for(masks: Tensor, size: int, seed: int = 0) -> Tensor:
    """Make predictions of masks that are right in most places: (N, H, W) bool -> (N, size, size) float32 logits."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.nn.functional.interpolate(masks[:, None].float(), (size, size), mode="area")[:, 0]
    return 6 * (small - 0.5) + 1.5 * torch.randn(small.shape, generator=generator)


def predictions(queries: int, kept: int, classes: int, size: tuple[int, int], device: str) -> SimpleNamespace:
    """Make confident predictions of one image, one blob per query, as transformers' models return them.

    Args:
        queries: Q.
        kept: how many queries are sure of a class, the first ones. The others are sure of "no object".
        classes: K.
        size: (h, w) of the mask logits.
        device: where they live.
    """
    generator = torch.Generator().manual_seed(2)
    height, width = size
    class_logits = torch.randn(queries, classes + 1, generator=generator)
    label = torch.randint(classes, (queries,), generator=generator)
    label[kept:] = classes
    class_logits[torch.arange(queries), label] += 14.0
    y, x = torch.linspace(0, 1, height).view(1, -1, 1), torch.linspace(0, 1, width).view(1, 1, -1)
    centre = torch.rand(2, queries, 1, 1, generator=generator)
    radius = 0.05 + 0.15 * torch.rand(queries, 1, 1, generator=generator)
    noise = 0.3 * torch.randn(queries, height, width, generator=generator)
    mask_logits = 40 * (radius - ((y - centre[0]) ** 2 + (x - centre[1]) ** 2).sqrt()) + noise
    return SimpleNamespace(
        class_queries_logits=class_logits[None].to(device), masks_queries_logits=mask_logits[None].to(device)
    )


def image_processors() -> tuple[Any, Any]:
    """Return transformers' image processor of MaskFormer, and one that runs on our ops."""
    from transformers import MaskFormerImageProcessor

    from maskformer_ext.integrations.transformers import accelerate

    accelerated = MaskFormerImageProcessor()
    accelerate(None, accelerated)
    return MaskFormerImageProcessor(), accelerated
