"""From annotations to segments, and back to fewer of them: one integer map and one label a segment, never masks.

Everything here counts ids in one pass over the map (``bincount``), so the cost does not grow with the segments.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from maskformer_ext.ops.targets import VOID


def segments_from_ids(ids: np.ndarray, class_of_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make one segment of every id that is present, in ascending order of ids.

    Args:
        ids: (H, W) non-negative integers.
        class_of_id: (N,) class id of each id that may occur, VOID where the id means no segment.

    Returns:
        segment_map (H, W) int32 and labels (T,) int64.
    """
    present = np.bincount(ids.ravel(), minlength=len(class_of_id)) > 0
    present &= class_of_id != VOID
    table = np.where(present, np.cumsum(present) - 1, VOID).astype(np.int32)
    return table[ids], class_of_id[present].astype(np.int64)


def merge_classes(segment_map: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join all segments of a class into one, in ascending order of classes (semantic segmentation).

    Args:
        segment_map: (H, W) int32.
        labels: (T,) int64.

    Returns:
        segment_map (H, W) int32 and labels (classes,) int64.
    """
    classes, index = np.unique(labels, return_inverse=True)
    table = np.append(index, VOID).astype(np.int32)
    return table[segment_map], classes


def select_classes(
    segment_map: np.ndarray, labels: np.ndarray, classes: Iterable[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the segments of some classes; the pixels of the others become void.

    Args:
        segment_map: (H, W) int32.
        labels: (T,) int64.
        classes: class ids to keep.

    Returns:
        segment_map (H, W) int32 and labels (kept,) int64.
    """
    return keep_segments(segment_map, labels, np.isin(labels, list(classes)))


def drop_empty(segment_map: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Remove the segments that own no pixel (a crop leaves such behind).

    Args:
        segment_map: (H, W) int32.
        labels: (T,) int64.

    Returns:
        segment_map (H, W) int32 and labels (present,) int64.
    """
    return keep_segments(segment_map, labels, present_segments(segment_map, len(labels)))


def present_segments(segment_map: np.ndarray, count: int) -> np.ndarray:
    """Tell which of ``count`` segments own a pixel: (count,) bool."""
    return np.bincount(segment_map.ravel() + 1, minlength=count + 1)[1:] > 0  # VOID + 1 = 0


def keep_segments(segment_map: np.ndarray, labels: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the segments that a boolean (T,) array marks and renumber them; the pixels of the others become void."""
    table = np.append(np.where(keep, np.cumsum(keep) - 1, VOID), VOID).astype(np.int32)  # the last entry is VOID's
    return table[segment_map], labels[keep]
