"""One segment of a result: what it is, where it lies, and its mask on demand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from maskformer_ext.inference.results.base import Result


@dataclass(frozen=True)
class Segment:
    """A thing, a region of stuff, or in semantic results all pixels of a class.

    Attributes:
        id: its value in maps of ids: the class, the panoptic segment's id, or 1 + the index of the instance.
        label: class id.
        name: of the class.
        is_thing: whether things of its class are told apart.
        score: in 0..1; None in semantic results.
        area: pixels.
        box: x0, y0, x1, y1 in half-open pixels.
    """

    id: int
    label: int
    name: str
    is_thing: bool
    score: float | None
    area: int
    box: tuple[int, int, int, int]
    _result: Result = field(repr=False, compare=False)
    _index: int = field(repr=False, compare=False)

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool, made when asked for."""
        return self._result.mask_of(self._index)

    @property
    def share(self) -> float:
        """Its part of the image, in 0..1."""
        height, width = self._result.size
        return self.area / (height * width)

    def polygons(self, *, tolerance: float = 0.5) -> list[np.ndarray]:
        """Return the outlines of its parts, largest first, without the holes in them.

        Args:
            tolerance: pixels by which an outline may leave the mask's border, to have fewer points.

        Returns:
            Arrays (n, 2) float64 of x and y in pixels; the corner of the image is (0, 0).
        """
        from maskformer_ext.inference.results.outlines import mask_polygons

        return mask_polygons(self.mask, self.box, tolerance=tolerance)

    def rle(self) -> dict[str, Any]:
        """Return the mask as COCO run lengths, ``{"size": [H, W], "counts": str}``."""
        return self._result.rle_of(self._index)
