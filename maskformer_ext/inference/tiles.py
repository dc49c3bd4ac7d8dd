"""Large images in overlapping square tiles: where they lie, and how their results become one.

Crowded images hold more segments than the model has queries, and large ones shrink small things away. Tiles keep the
image's resolution, and each has all queries for itself.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

OVERLAP = 0.25
"""Share of a tile's side that neighbouring tiles have in common, at least."""

SAME_IOU = 0.5
"""Two tiles see the same thing where their masks' IoU inside the shared region is above this."""


class Tile(NamedTuple):
    """A rectangle of the image, half-open, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def rows(self) -> slice:
        """Its rows in the image."""
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        """Its columns in the image."""
        return slice(self.left, self.right)

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the rectangle in a (H, W) array."""
        return self.rows, self.columns

    def shared(self, other: Tile) -> Tile | None:
        """Return the intersection of two tiles, None where it is empty."""
        common = Tile(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )
        return common if common.top < common.bottom and common.left < common.right else None

    def within(self, outer: Tile) -> tuple[slice, slice]:
        """Index of this rectangle in an array that covers ``outer``."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )


def make_tiles(height: int, width: int, side: int) -> list[Tile]:
    """Cover an image with tiles of one size.

    Args:
        height: of the image in pixels.
        width: of the image in pixels.
        side: of a tile in pixels; a shorter side of the image is covered whole.

    Returns:
        The tiles, row by row, evenly spaced; neighbours share at least ``OVERLAP`` of their side.
    """
    tops, rows = _positions(height, side), min(side, height)
    lefts, columns = _positions(width, side), min(side, width)
    return [Tile(top, left, top + rows, left + columns) for top in tops for left in lefts]


def _positions(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    step = max(1, side - math.ceil(side * OVERLAP))
    count = math.ceil((length - side) / step) + 1
    return [round(index * (length - side) / (count - 1)) for index in range(count)]


def edge_distance(tile: Tile, height: int, width: int) -> np.ndarray:
    """Return (h, w) float32: how far each pixel of a tile is from the tile's cuts through the image, at least 0.5."""

    def along(start: int, end: int, length: int) -> np.ndarray:
        centre = np.arange(end - start, dtype=np.float32) + 0.5
        before = centre if start > 0 else np.full_like(centre, np.inf)
        after = (end - start) - centre if end < length else np.full_like(centre, np.inf)
        return np.minimum(before, after)

    rows, columns = along(tile.top, tile.bottom, height), along(tile.left, tile.right, width)
    return np.minimum(np.minimum.outer(rows, columns), np.float32(height + width))


def owners(tiles: list[Tile], height: int, width: int) -> np.ndarray:
    """Return (H, W) int32: the tile that sees each pixel farthest from its cuts, where several do the first."""
    best = np.zeros((height, width), dtype=np.float32)
    owner = np.zeros((height, width), dtype=np.int32)
    for index, tile in enumerate(tiles):
        distance = edge_distance(tile, height, width)
        closer = distance > best[tile.window]
        best[tile.window][closer] = distance[closer]
        owner[tile.window][closer] = index
    return owner


class Groups:
    """Disjoint sets of numbers 0..n-1: which segments are parts of one."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, item: int) -> int:
        """Return the smallest member of the item's set."""
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, first: int, second: int) -> None:
        """Make one set of two."""
        low, high = sorted((self.find(first), self.find(second)))
        self._parent[high] = low
