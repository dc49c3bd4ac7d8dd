"""Resizes for the tests of the inference kernels, with two and four taps per axis, and their float64 reference."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# (h, w) of the logits, (H, W) of the output, and arguments of the ops
RESIZES = [
    ((13, 17), (50, 41), None, None),  # one resize
    ((12, 10), (21, 70), (48, 40), (37, 33)),  # two resizes: four taps
    ((16, 24), (64, 96), (64, 96), (64, 96)),  # the second is none
    ((16, 24), (40, 57), (16, 24), (15, 20)),  # the first is none
    ((40, 70), (9, 33), (80, 35), (63, 35)),  # smaller, one axis with two taps and one with four
    ((1, 1), (3, 40), None, None),
]

# the same as arguments of the public ops
INFERENCE_SIZES = [
    {"size": (128, 192)},
    {"size": (97, 161), "input_size": (128, 192), "crop": (120, 181)},
    {"size": (20, 31)},
]


def resized(maps: Tensor, size, input_size, crop, *, between=lambda x: x) -> Tensor:
    """Resize (Q, h, w) in float64 as the ops do; ``between`` is applied at the network input."""

    def bilinear(x, to):
        return F.interpolate(x[None], size=tuple(to), mode="bilinear", align_corners=False)[0]

    maps = maps.double()
    maps = between(maps if input_size is None else bilinear(maps, input_size))
    return bilinear(maps if crop is None else maps[:, : crop[0], : crop[1]], size)


def peaks(height: int, width: int) -> Tensor:
    """Logits that are large at one sample each, one query per sample: none may be left out as small."""
    logits = torch.full((height * width, height * width), -9.0)
    return logits.fill_diagonal_(30.0).view(-1, height, width)
