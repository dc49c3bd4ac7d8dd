"""A model that reads the answer off the pixels, so that everything around a network can be tested exactly.

In a painted image the red value of a pixel is the number of its segment (0 = void) and the green value its class.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

CONFIDENT = 12.0

THINGS = (1, 2)
"""Classes of `scene` that are things."""


class PaintOutput:
    """Class and mask logits, as ``MaskFormerOutput`` gives them."""

    def __init__(self, class_logits: Tensor, mask_logits: Tensor) -> None:
        self.class_logits = class_logits.unsqueeze(0)
        self._mask_logits = mask_logits

    def mask_logits(self, layer: int = -1) -> Tensor:
        return self._mask_logits


class PaintModel(nn.Module):
    """Predict one query for each red value that occurs, of the class that green says."""

    def __init__(
        self, num_classes: int, *, num_queries: int = 64, size_divisibility: int = 1, limit: int = 255
    ) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.num_classes, self.num_queries, self.limit = num_classes, num_queries, limit
        self.config = SimpleNamespace(
            pixel_mean=[0.0, 0.0, 0.0], pixel_std=[50.0, 60.0, 70.0], size_divisibility=size_divisibility
        )
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> PaintOutput:
        self.shapes.append(tuple(images.shape))
        std = torch.tensor(self.config.pixel_std).view(3, 1, 1)
        class_logits = torch.full((len(images), self.num_queries, self.num_classes + 1), -CONFIDENT)
        class_logits[..., -1] = CONFIDENT
        mask_logits = torch.full((len(images), self.num_queries, *images.shape[-2:]), -CONFIDENT)
        for row, pixels in enumerate((images * std).round().long()):
            red, green = pixels[0], pixels[1]
            present = [value for value in red.unique().tolist() if 0 < value <= self.limit]
            for query, value in enumerate(present[: self.num_queries]):
                own = red == value
                class_logits[row, query, -1] = -CONFIDENT
                class_logits[row, query, green[own][0]] = CONFIDENT
                mask_logits[row, query][own] = CONFIDENT
        return PaintOutput(class_logits, mask_logits)


def paint(segments: np.ndarray, labels: list[int]) -> np.ndarray:
    """Paint (H, W) segment numbers, 0 = void, whose classes ``labels`` lists from number 1 on: (H, W, 3) uint8."""
    table = np.array([0, *labels])
    return np.stack([segments, table[segments], np.zeros_like(segments)], axis=-1).astype(np.uint8)


def scene(size: tuple[int, int], *, things: int, seed: int = 0, side: int = 7) -> tuple[np.ndarray, list[int]]:
    """Draw separate squares of classes 1 and 2 on a background of class 0: segment numbers and their classes."""
    random = np.random.default_rng(seed)
    segments, labels = np.ones(size, dtype=np.int64), [0]
    while len(labels) <= things:
        y, x = random.integers(0, size[0] - side), random.integers(0, size[1] - side)
        around = segments[max(0, y - 1) : y + side + 1, max(0, x - 1) : x + side + 1]
        if (around == 1).all():
            labels.append(int(random.integers(1, 3)))
            segments[y : y + side, x : x + side] = len(labels)
    return segments, labels


def same_partition(found: np.ndarray, expected: np.ndarray) -> bool:
    """Return whether two maps cut the image into the same parts, whatever their numbers."""
    pairs = set(zip(found.ravel().tolist(), expected.ravel().tolist(), strict=True))
    return len(pairs) == len(np.unique(found)) == len(np.unique(expected))
