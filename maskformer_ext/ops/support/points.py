"""Sample maps at points, in plain PyTorch: what the kernels that work on points are compared with.

A point (x, y) has coordinates in [0, 1] from the map's left and top edge to its right and bottom edge. Pixel j covers
[j / w, (j + 1) / w] and its value stands at the centre, as in ``grid_sample`` with ``align_corners=False``. What lies
outside the map is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maskformer_ext.ops.support.checks import check_choice, check_floating, shape

SAMPLINGS = ("bilinear", "nearest")
"""How targets may be sampled: the mean of the four pixels around a point by their distance, or the pixel at it."""


def check_points(op: str, name: str, points: Tensor, masks: int) -> None:
    """Raise TypeError or ValueError unless points are (N, P, 2) floating, N as given."""
    check_floating(op, **{name: points})
    if points.dim() != 3 or points.shape[0] != masks or points.shape[2] != 2:
        raise ValueError(f"{op}: {name} must be (N, P, 2) with N = {masks}, got {shape(points)}")


def check_sampling(op: str, sampling: str) -> None:
    """Raise ValueError unless the name of a way of sampling is known."""
    check_choice(op, "sampling", sampling, SAMPLINGS)


def taps(points: Tensor, height: int, width: int, sampling: str = "bilinear") -> tuple[Tensor, Tensor]:
    """Find the pixels that a point reads, and their weights.

    Args:
        points: (..., 2) float32 or float64. One that is infinite or NaN lies outside.
        height: h of the map, at least 1.
        width: w of the map, at least 1.
        sampling: "bilinear", or "nearest": halves go to the even pixel.

    Returns:
        index: (..., K) int64, the pixels y * w + x; K is 4, or 1 for the nearest. Always inside the map.
        weight: (..., K) as the points; 0 for pixels outside the map.
    """
    x, y = (_position(points[..., axis], size) for axis, size in ((0, width), (1, height)))
    if sampling == "nearest":
        column, row = x.round(), y.round()
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
        return index.unsqueeze(-1), inside.to(points.dtype).unsqueeze(-1)
    left, top = x.floor(), y.floor()
    right_weight, lower_weight = x - left, y - top
    indices: list[Tensor] = []
    weights: list[Tensor] = []
    for row, of_row in ((top, 1 - lower_weight), (top + 1, lower_weight)):
        for column, of_column in ((left, 1 - right_weight), (left + 1, right_weight)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            indices.append(row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long())
            weights.append(torch.where(inside, of_row * of_column, 0.0))
    return torch.stack(indices, -1), torch.stack(weights, -1)


def sample(maps: Tensor, points: Tensor, sampling: str = "bilinear") -> Tensor:
    """Sample each map at points of its own, as ``grid_sample`` does.

    Args:
        maps: (N, h, w) float32 or float64. Gradients flow to them.
        points: (N, P, 2) float32 or float64.
        sampling: "bilinear" or "nearest".

    Returns:
        (N, P). A pixel without weight adds nothing, even where it is infinite or NaN.
    """
    index, weight = taps(points, maps.shape[1], maps.shape[2], sampling)
    values = maps.flatten(1).gather(1, index.flatten(1)).view(index.shape)
    return (values.masked_fill(weight == 0, 0.0) * weight).sum(-1)


def sample_segment(
    segment_maps: Tensor, image: Tensor, segment: Tensor, points: Tensor, sampling: str = "bilinear"
) -> Tensor:
    """Sample the mask of one segment per row of points, without forming the mask.

    Args:
        segment_maps: (B, H, W) integer, which segment owns each pixel.
        image: (N,) int64, in [0, B).
        segment: (N,) int64.
        points: (N, P, 2) float32 or float64.
        sampling: "bilinear" or "nearest".

    Returns:
        (N, P) as the points, between 0 and 1.
    """
    index, weight = taps(points, segment_maps.shape[1], segment_maps.shape[2], sampling)
    owner = segment_maps.flatten(1)[image.view(-1, 1, 1), index]
    return torch.where(owner == segment.view(-1, 1, 1), weight, 0.0).sum(-1)


def grid_position(coordinate: Tensor, size: int) -> Tensor:
    """Return where grid_sample finds a coordinate in [0, 1] on an axis of pixels, in its rounding.

    It multiplies by half the size and subtracts a half in one instruction, rounded once. Here the product is exact.
    """
    shifted = (2 * coordinate - 1) + 1
    if shifted.dtype == torch.float32:
        return (shifted.double() * (size / 2) - 0.5).float()
    high = shifted.float().double()  # so few digits that its product is exact, as that of the rest
    return (high * (size / 2) - 0.5) + (shifted - high) * (size / 2)


def _position(coordinate: Tensor, size: int) -> Tensor:
    """Return where a coordinate lies in pixels, from the centre of the first; whatever reads no pixel becomes -2."""
    position = grid_position(coordinate, size)
    return torch.where((position > -1) & (position < size), position, -2.0)
