"""Random changes of colour, those of the SSD detector's paper (Liu et al. 2016) as the MaskFormer recipes use them."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as v2

from maskformer_ext.data.augmentation.draws import integer, uniform

_BRIGHTNESS = 32
_FACTOR = (0.5, 1.5)
_HUE = 18 / 180  # of OpenCV's 180 steps


def jitter_colors(image: Tensor, generator: Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue, each with probability one half.

    Brightness is a number added, contrast a factor; contrast comes before or after the others at random. Saturation
    blends with the grey image and hue turns the colour circle, as torchvision does.

    Args:
        image: (3, H, W) uint8.
        generator: the source of randomness.

    Returns:
        (3, H, W) uint8.
    """
    levels = torch.arange(256)
    table = levels
    if integer(2, generator):
        table = (table + round(uniform(-_BRIGHTNESS, _BRIGHTNESS, generator))).clamp(0, 255)
    contrast_first = bool(integer(2, generator))
    if contrast_first and integer(2, generator):
        table = _scale(table, uniform(*_FACTOR, generator))
    pixels = image if table is levels else _look_up(table, image)
    if integer(2, generator):
        pixels = v2.adjust_saturation(pixels, uniform(*_FACTOR, generator))
    if integer(2, generator):
        pixels = turn_hue(pixels, uniform(-_HUE, _HUE, generator))
    if not contrast_first and integer(2, generator):
        pixels = _look_up(_scale(levels, uniform(*_FACTOR, generator)), pixels)
    return pixels


def turn_hue(image: Tensor, turn: float) -> Tensor:
    """Add to the hue of every pixel in HSV, without going through HSV.

    A channel is its pixel's least value plus the chroma times a trapezium over the colour circle. Between the six
    corners of the circle the channels are linear in the hue, so that a turn by d <= 1 sixths makes of red

        clamp(red - green - (1 - 2 d) blue + (1 - d) chroma + (2 - 2 d) least, least, greatest)

    and likewise of the others, round the circle; a turn the other way swaps green and blue.

    Args:
        image: (3, H, W) uint8.
        turn: the share of a whole turn, within -1/6 and 1/6.

    Returns:
        (3, H, W) uint8, within one level of torchvision's ``adjust_hue``.

    Raises:
        ValueError: if the turn is larger.
    """
    if abs(turn) > 1 / 6:
        raise ValueError(f"turn_hue: turn must be within -1/6 and 1/6, got {turn}")
    step, sixths = (1 if turn >= 0 else -1), 6 * abs(turn)
    greatest, least = image.amax(0).float(), image.amin(0).float()
    offset = (greatest - least).mul_(1 - sixths).add_(least, alpha=2 - 2 * sixths)
    channels = image.float()
    turned = torch.empty(image.shape, dtype=torch.uint8)
    for index in range(3):
        after, before = channels[(index + step) % 3], channels[(index - step) % 3]
        value = (channels[index] - after).sub_(before, alpha=1 - 2 * sixths).add_(offset)
        torch.minimum(torch.maximum(value, least, out=value), greatest, out=value)
        turned[index] = value.add_(0.5)  # the conversion truncates
    return turned


def _scale(levels: Tensor, factor: float) -> Tensor:
    return (levels * factor).clamp(max=255).to(torch.int64)


def _look_up(table: Tensor, image: Tensor) -> Tensor:
    """Return table[image] for (256,) integers and (3, H, W) uint8; 32-bit indices are the fastest that torch takes."""
    return table.to(torch.uint8).index_select(0, image.flatten().int()).view(image.shape)
