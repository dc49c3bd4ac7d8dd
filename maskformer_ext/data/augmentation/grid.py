"""Resizes, crops, turns and flips of a segment map as two index vectors: its pixels are moved once, at the end."""

from __future__ import annotations

import torch
from torch import Tensor


class PixelGrid:
    """Which rows and columns of a map make the present picture.

    Resizing takes the nearest pixel by its centre, as Pillow does. So labels stay whole. They lie where the image,
    resized with the same centres, has them.

    Args:
        shape: height and width in pixels.

    Attributes:
        rows: index into the source of each row.
        columns: index into the source of each column.
        transposed: whether rows and columns of the source are swapped first.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.rows, self.columns = (torch.arange(side) for side in shape)
        self.transposed = False

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the present picture in pixels."""
        return len(self.rows), len(self.columns)

    def resize(self, size: tuple[int, int]) -> None:
        """Bring the picture to a height and width."""
        self.rows, self.columns = (
            axis[(2 * torch.arange(new) + 1) * len(axis) // (2 * new)]
            for axis, new in zip((self.rows, self.columns), size, strict=True)
        )

    def crop(self, top: int, left: int, height: int, width: int) -> None:
        """Keep a rectangle."""
        self.rows, self.columns = self.rows[top : top + height], self.columns[left : left + width]

    def flip(self, axis: int) -> None:
        """Mirror the picture: axis 0 swaps top and bottom, 1 left and right."""
        if axis == 0:
            self.rows = self.rows.flip(0)
        else:
            self.columns = self.columns.flip(0)

    def rotate90(self, turns: int) -> None:
        """Turn the picture counterclockwise by quarters, as ``torch.rot90`` over (-2, -1) does."""
        for _ in range(turns % 4):
            self.rows, self.columns = self.columns.flip(0), self.rows
            self.transposed = not self.transposed

    def read(self, source: Tensor, box: tuple[int, int, int, int] | None = None) -> Tensor:
        """Return the picture, (h, w) or (T, h, w), of a map (H, W) or of masks (T, H, W).

        Args:
            source: of the height and width that the grid began with.
            box: top, left, height and width of the part that is wanted; None: all.
        """
        top, left, height, width = box or (0, 0, *self.shape)
        rows, columns = self.rows[top : top + height].int(), self.columns[left : left + width].int()
        stride = source.shape[-1]
        places = columns * stride + rows[:, None] if self.transposed else rows[:, None] * stride + columns
        maps = source.reshape(-1, source.shape[-2] * stride)
        read = source.new_empty(len(maps), *places.shape)
        for pixels, picture in zip(maps, read, strict=True):
            torch.index_select(pixels, 0, places.flatten(), out=picture.view(-1))
        return read.view(*source.shape[:-2], *places.shape)
