"""Masks as polygons: outlines by scikit-image, and several parts joined to one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mask_polygons(mask: np.ndarray, box: Sequence[int], *, tolerance: float) -> list[np.ndarray]:
    """Return the outlines of a mask's parts, the largest part first; holes are filled.

    Pixels that touch at a corner belong to one part.

    Args:
        mask: (H, W) bool.
        box: x0, y0, x1, y1 in half-open pixels; nothing of the mask lies outside.
        tolerance: pixels by which an outline may leave the mask's border; 0 keeps every turn.

    Returns:
        Arrays (n, 2) float64 of x and y in pixels, n >= 3; the first point is not repeated at the end.

    Raises:
        ValueError: if the tolerance is negative.
    """
    if not tolerance >= 0:
        raise ValueError(f"polygons: tolerance must be a number of pixels, 0 or more, got {tolerance}")
    from scipy.ndimage import binary_fill_holes
    from skimage.measure import approximate_polygon, find_contours

    x0, y0, x1, y1 = box
    part = np.pad(mask[y0:y1, x0:x1], 1)
    if not part.any():
        return []
    polygons = []
    for contour in find_contours(binary_fill_holes(part).astype(np.float32), 0.5, fully_connected="high"):
        closed = approximate_polygon(contour, tolerance)
        closed = closed if len(closed) > 3 else contour  # a sliver would vanish
        rows, columns = closed[:-1].T
        polygons.append(np.stack([columns + (x0 - 0.5), rows + (y0 - 0.5)], axis=1))
    return sorted(polygons, key=polygon_area, reverse=True)


def polygon_area(polygon: np.ndarray) -> float:
    """Return the pixels that a polygon (n, 2) encloses."""
    x, y = polygon.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def joined_polygon(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Return several polygons as one, joined by lines there and back between their nearest points.

    Args:
        polygons: at least one, (n, 2) each.

    Returns:
        (m, 2) points, whose inside is that of all polygons.
    """
    joined = polygons[0]
    for polygon in polygons[1:]:
        here, there = _nearest(joined, polygon)
        around = np.concatenate([polygon[there:], polygon[: there + 1]])
        joined = np.concatenate([joined[: here + 1], around, joined[here:]])
    return joined


def _nearest(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    from scipy.spatial import cKDTree

    distance, index = cKDTree(first).query(second)
    there = int(np.argmin(distance))
    return int(index[there]), there
