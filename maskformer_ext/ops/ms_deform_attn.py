"""Multi-scale deformable attention: every query takes a weighted mean of values at a few points per level and head.

The native kernels take a head's values as one compact panel (docs/kernels/deformable-attention.md). The reference
gathers the taps of each level. Both compute in float32 at least.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maskformer_ext.ops.support.checks import (
    check_choice,
    check_floating,
    check_integer,
    check_same_device,
    shape,
    shown,
    whole_number,
)
from maskformer_ext.ops.support.library import native, once_differentiable, register, without_autocast
from maskformer_ext.ops.support.points import grid_position

_OP = "ms_deform_attn"
_SAMPLINGS = ("bilinear", "discrete")
_MOST_LEVELS = 64  # that the kernels hold (csrc/ms_deform_attn/ms_deform_attn_cuda.h); the reference takes more


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[Sequence[int]] | Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    *,
    points_per_level: Sequence[int] | None = None,
    sampling: str = "bilinear",
) -> Tensor:
    """Sum, per query and head, values at sampling points of all levels, weighted by attention.

    Args:
        value: (B, S, H, D) floating, the cells of all levels one after the other, each level row by row.
        spatial_shapes: ((h, w), ...) of the L levels as Python integers; S is the sum of h * w. A tensor (L, 2) is read
            where it lies on the CPU. On another device reading would wait, so it is refused.
        sampling_locations: (B, Q, H, L, P, 2) floating, x and y as fractions of a level's width and height. With
            points_per_level (B, Q, H, N, 2), level after level. The dtype may differ from value's.
        attention_weights: (B, Q, H, L, P) floating, or (B, Q, H, N). The dtype may differ from value's.
        points_per_level: the number of points of each level, N in all; None: P on each level.
        sampling: "bilinear" interpolates between the centres of four cells, and takes 0 outside of the map. "discrete"
            takes the cell x * w + 0.5 rounded down, y likewise, moved inside of the map.

    Returns:
        (B, Q, H * D) of value's dtype, summed in float32 at least.

        A point on the centre of a cell has two neighbours on an axis to choose from. The gradient of its location is
        that of the side that grid_sample takes for 2 * location - 1, computed in float32 at least.

        A location that is infinite or far outside counts as outside: it adds 0 ("discrete": the cell at the border).
        A NaN location makes the query's outputs of that head NaN and gets the gradient 0. Values and weights that are
        not finite reach the outputs that take them.

    Raises:
        TypeError: a tensor is not floating, spatial_shapes or points_per_level are no integers, or spatial_shapes is a
            tensor on another device than the CPU.
        ValueError: shapes or devices do not fit, or sampling is unknown.

    Source: Zhu et al., "Deformable DETR" (arXiv 2010.04159), equation 3. Points that differ per level and discrete
        sampling: Lv et al., "RT-DETRv2" (arXiv 2407.17140), sections 3.1 and 3.2.
    """
    check_floating(_OP, value=value, sampling_locations=sampling_locations, attention_weights=attention_weights)
    check_same_device(_OP, value=value, sampling_locations=sampling_locations, attention_weights=attention_weights)
    check_choice(_OP, "sampling", sampling, _SAMPLINGS)
    shapes = _shapes(spatial_shapes)
    points = _points(points_per_level, sampling_locations, len(shapes))
    _check_sizes(value, shapes, sampling_locations, attention_weights, points, points_per_level is not None)
    if points_per_level is None:
        sampling_locations, attention_weights = sampling_locations.flatten(3, 4), attention_weights.flatten(3)
    discrete = sampling == "discrete"
    if len(shapes) <= _MOST_LEVELS and native(_OP, value, sampling_locations, attention_weights):
        sizes = [size for level in shapes for size in level]
        return torch.ops.maskformer_ext.ms_deform_attn(
            value, sizes, sampling_locations, attention_weights, points, discrete
        )
    with without_autocast(value):
        return _reference(value, shapes, sampling_locations, attention_weights, points, discrete)


def _shapes(spatial_shapes: Any) -> list[tuple[int, int]]:
    if isinstance(spatial_shapes, Tensor):
        if spatial_shapes.device.type != "cpu":
            raise TypeError(
                f"{_OP}: spatial_shapes must be pairs of integers, got a Tensor on {spatial_shapes.device}, "
                "and reading it would wait"
            )
        check_integer(_OP, spatial_shapes=spatial_shapes)
        spatial_shapes = spatial_shapes.tolist()
    try:
        pairs = [tuple(pair) for pair in spatial_shapes]
    except TypeError:
        raise TypeError(f"{_OP}: spatial_shapes must be pairs of integers, got {shown(spatial_shapes)}") from None
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{_OP}: spatial_shapes must be one (h, w) per level, got {shown(spatial_shapes)}")
    shapes = [(whole_number(_OP, "a height", h), whole_number(_OP, "a width", w)) for h, w in pairs]
    if any(h < 1 or w < 1 for h, w in shapes):
        raise ValueError(f"{_OP}: spatial_shapes must be positive, got {shapes}")
    return shapes


def _points(points_per_level: Any, locations: Tensor, levels: int) -> list[int]:
    if points_per_level is None:
        return [locations.shape[4] if locations.dim() == 6 else 0] * levels
    if isinstance(points_per_level, str | bytes) or not isinstance(points_per_level, Sequence):
        raise TypeError(f"{_OP}: points_per_level must be a sequence of integers, got {shown(points_per_level)}")
    points = [whole_number(_OP, "points_per_level", count) for count in points_per_level]
    if len(points) != levels or any(count < 0 for count in points):
        raise ValueError(f"{_OP}: points_per_level must be {levels} counts, one per level, got {points}")
    return points


def _check_sizes(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor, points: list[int], ragged: bool
) -> None:
    if value.dim() != 4:
        raise ValueError(f"{_OP}: value must be (B, S, H, D), got {shape(value)}")
    batch, cells, heads, _ = value.shape
    expected = sum(h * w for h, w in shapes)
    if cells != expected:
        raise ValueError(f"{_OP}: value must be (B, S, H, D) with S = {expected} by spatial_shapes, got {shape(value)}")
    total, levels = sum(points), len(shapes)
    if ragged:
        fits = locations.dim() == 5 and locations.shape[3:] == (total, 2)
        wanted = f"(B, Q, H, N, 2) with N = {total}"
    else:
        fits = locations.dim() == 6 and locations.shape[3] == levels and locations.shape[5] == 2
        wanted = f"(B, Q, H, L, P, 2) with L = {levels}"
    if not fits or locations.shape[0] != batch or locations.shape[2] != heads:
        raise ValueError(
            f"{_OP}: sampling_locations must be {wanted}, B = {batch} and H = {heads}, got {shape(locations)}"
        )
    if weights.shape != locations.shape[:-1]:
        raise ValueError(
            f"{_OP}: attention_weights must be {tuple(locations.shape[:-1])} as sampling_locations, "
            f"got {shape(weights)}"
        )


def _reference(
    value: Tensor,
    shapes: list[tuple[int, int]],
    locations: Tensor,
    weights: Tensor,
    points: list[int],
    discrete: bool,
) -> Tensor:
    """Compute the op in PyTorch, from locations (B, Q, H, N, 2) and weights (B, Q, H, N)."""
    dtype = torch.float32
    for tensor in (value, locations, weights):
        dtype = torch.promote_types(dtype, tensor.dtype)
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    unknown = locations.isnan().any(-1)
    locations = torch.where(unknown[..., None], -1, locations.to(dtype)).transpose(1, 2).flatten(0, 1)
    weights = weights.to(dtype).masked_fill(unknown, 0).transpose(1, 2).flatten(0, 1)[:, None]
    out = value.new_zeros((batch * heads, channels, queries), dtype=dtype)
    cells = value.to(dtype).split([h * w for h, w in shapes], 1)
    places, shares = locations.split(points, 2), weights.split(points, 3)
    for (h, w), level, place, share in zip(shapes, cells, places, shares, strict=True):
        if share.numel() == 0 or level.numel() == 0:
            out = out + level[:0].sum() + place[:0].sum() + share[:0].sum()  # 0, and gradients stay connected
            continue
        maps = level.permute(0, 2, 3, 1).reshape(batch * heads, channels, h, w)
        sampled = _cells(maps, place) if discrete else _between(maps, place)
        out = out + (sampled * share).sum(-1) + place[:0].sum()  # connected, where cells do not depend on it
    out = out.view(batch, heads, channels, queries).permute(0, 3, 1, 2)
    out = out + out.new_zeros(()).masked_fill(unknown.any(-1, keepdim=True), torch.nan)
    return out.reshape(batch, queries, heads * channels).to(value.dtype)


def _between(maps: Tensor, place: Tensor) -> Tensor:
    """Interpolate maps (N, D, h, w) at places (N, Q, P, 2) in [0, 1]; return (N, D, Q, P).

    As grid_sample, which has neither forward mode nor second derivatives.
    """
    h, w = maps.shape[2:]
    x, y = place.clamp(-2, 3).unbind(-1)  # wholly outside, and no number that overflows as an integer
    left, above = grid_position(x.detach(), w).floor(), grid_position(y.detach(), h).floor()
    x, y = x * w - 0.5, y * h - 0.5
    out = maps.new_zeros(())
    for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
        for row, share_y in ((above, above + 1 - y), (above + 1, y - above)):
            inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
            taken = _take(maps, row.clamp(0, h - 1).long(), column.clamp(0, w - 1).long())
            out = out + taken.masked_fill(~inside[:, None], 0) * (share_x * share_y)[:, None]
    return out


def _cells(maps: Tensor, place: Tensor) -> Tensor:
    """Take the cells of maps (N, D, h, w) at places (N, Q, P, 2) in [0, 1]; return (N, D, Q, P)."""
    h, w = maps.shape[2:]
    x, y = place.detach().clamp(-2, 3).unbind(-1)
    column = (x * w + 0.5).floor().clamp(0, w - 1).long()
    row = (y * h + 0.5).floor().clamp(0, h - 1).long()
    return _take(maps, row, column)


def _take(maps: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Take cells of maps (N, D, h, w) by rows and columns (N, Q, P); return (N, D, Q, P)."""
    count, channels, _, w = maps.shape
    cell = (row * w + column).flatten(1)[:, None].expand(count, channels, -1)
    return maps.flatten(2).gather(2, cell).view(count, channels, *row.shape[1:])


def _fake(
    value: Tensor, sizes: list[int], locations: Tensor, weights: Tensor, points: list[int], discrete: bool
) -> Tensor:
    batch, _, heads, channels = value.shape
    return value.new_empty((batch, locations.shape[1], heads * channels))


def _fake_backward(
    grad: Tensor,
    value: Tensor,
    sizes: list[int],
    locations: Tensor,
    weights: Tensor,
    points: list[int],
    discrete: bool,
    to_value: bool,
    to_points: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        value.new_empty(value.shape if to_value else (0,)),
        locations.new_empty(locations.shape if to_points else (0,)),
        weights.new_empty(weights.shape if to_points else (0,)),
    )


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    value, ctx.sizes, locations, weights, ctx.points, ctx.discrete = inputs
    ctx.save_for_backward(value, locations, weights)


def _backward(ctx: Any, grad: Tensor) -> tuple:
    value, locations, weights = ctx.saved_tensors
    to_value, _, to_locations, to_weights, *_ = ctx.needs_input_grad
    to_points = to_locations or to_weights
    grads = torch.ops.maskformer_ext.ms_deform_attn_backward(
        grad, value, ctx.sizes, locations, weights, ctx.points, ctx.discrete, to_value, to_points
    )
    grad_value, grad_locations, grad_weights = grads
    return (
        grad_value if to_value else None,
        None,
        grad_locations if to_locations else None,
        grad_weights if to_weights else None,
        None,
        None,
    )


register(_OP, fake=_fake, backward=_backward, setup_context=_setup_context)
register(f"{_OP}_backward", fake=_fake_backward, backward=once_differentiable(_OP))
