"""Position encodings of a feature map."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FOURIER_FREQUENCIES = 16
"""Wavelengths an axis of the Fourier encoding; it has four times as many channels."""


def sine_position_encoding(
    height: int,
    width: int,
    channels: int,
    *,
    temperature: float = 10000.0,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Encode every position of a map by sines and cosines of its normalised coordinates.

    The first half of the channels encodes y, the second x. Coordinates count from 1 and are scaled so that the last is
    2 pi. Even channels hold the sine and odd ones the cosine, of falling frequency.

    Args:
        height: rows of the map.
        width: columns of the map.
        channels: a multiple of 4.
        temperature: ratio of the highest to the lowest frequency.
        device: where the result lives.
        dtype: of the result; it is computed in float32.

    Returns:
        (1, channels, height, width).

    Raises:
        ValueError: if ``channels`` is no multiple of 4.

    Source: "Attention Is All You Need", section 3.5, in two dimensions as in DETR (appendix A.4).
    """
    if channels % 4:
        raise ValueError(f"sine_position_encoding: channels must be a multiple of 4, got {channels}")
    half = channels // 2
    pair = torch.arange(half, dtype=torch.float32, device=device).div(2, rounding_mode="floor")
    period = temperature ** (2 * pair / half)
    rows = _encode_axis(height, period)[:, None, :].expand(height, width, half)
    columns = _encode_axis(width, period)[None, :, :].expand(height, width, half)
    return torch.cat((rows, columns), dim=-1).permute(2, 0, 1).unsqueeze(0).to(dtype)


def _encode_axis(length: int, period: Tensor) -> Tensor:
    """Encode the coordinates 1..length, (length, len(period))."""
    position = torch.arange(1, length + 1, dtype=torch.float32, device=period.device)
    position = position / (length + 1e-6) * (2 * math.pi)
    angle = position[:, None] / period
    return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=-1).flatten(1)


def fourier_position_encoding(
    height: int,
    width: int,
    *,
    cell: tuple[float, float] = (1.0, 1.0),
    num_frequencies: int = FOURIER_FREQUENCIES,
    device: torch.device | None = None,
) -> Tensor:
    """Encode every position by sines and cosines of its coordinates in cells, not relative to the map's size.

    Wavelengths fall geometrically from 256 cells to 8. A linear form of the encoding can then single out a place about
    as large as a small object.

    Args:
        height: rows of the map.
        width: columns of the map.
        cell: height and width of a cell, in cells of the finest map: coarser maps then speak of the same places.
        num_frequencies: wavelengths an axis.
        device: where the result lives.

    Returns:
        (1, 4 * num_frequencies, height, width) float32.

    Source: "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains", section 3.
    """
    exponent = torch.linspace(0, 5, num_frequencies, device=device)
    angular = 2 * math.pi / 256 * 2**exponent

    def encode(length: int, size: float) -> Tensor:
        angle = (torch.arange(length, dtype=torch.float32, device=device)[:, None] + 0.5) * size * angular
        return torch.cat((angle.sin(), angle.cos()), dim=1)

    rows = encode(height, cell[0])[:, None, :].expand(height, width, -1)
    columns = encode(width, cell[1])[None, :, :].expand(height, width, -1)
    return torch.cat((rows, columns), dim=-1).permute(2, 0, 1).unsqueeze(0)


def add_positions(maps: Tensor, projection: nn.Module, *, cell: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Return maps (B, C, h, w) plus the projection of the Fourier encoding of their positions.

    Args:
        maps: to add to.
        projection: of (1, 4 * ``FOURIER_FREQUENCIES``, h, w) to C channels.
        cell: as in `fourier_position_encoding`.
    """
    position = fourier_position_encoding(maps.shape[-2], maps.shape[-1], cell=cell, device=maps.device)
    if torch.compiler.is_exporting():  # OpenVINO joins projection and sum, and then takes one image only
        position = position.expand(maps.shape[0], -1, -1, -1)
    return maps + projection(position.to(maps.dtype))
