"""From ids to segments, and back to fewer of them: one integer map and one label per segment, never masks.

Label files arrive as NumPy arrays; `ids_tensor` is where they become tensors, and they stay tensors from there on.
Everything here counts ids in one pass over the map, so the cost does not grow with the segments.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.ops.targets import VOID


def ids_tensor(label: np.ndarray) -> Tensor:
    """Return the numbers of a label file, uint8 or below 2^31, as (H, W) uint8 or int32."""
    return torch.from_numpy(np.require(label, np.uint8 if label.dtype == np.uint8 else np.int32, ["C", "W"]))


def look_up(table: Tensor, ids: Tensor) -> Tensor:
    """Return ``table[ids]`` for a table (N,) and integers of any shape; 32-bit indices are torch's fastest."""
    return table.index_select(0, ids.flatten().int()).view(ids.shape)


def count_ids(ids: Tensor, count: int = 0) -> Tensor:
    """Return how many pixels each id owns: (N,) int64, where N is at least ``count`` and beyond every id."""
    return torch.bincount(ids.flatten(), minlength=count)


def count_segments(segment_map: Tensor, count: int) -> tuple[int, Tensor]:
    """Return how many pixels are void, and how many each of ``count`` segments owns, (count,) int64."""
    areas = count_ids(segment_map + 1, count + 1)  # VOID + 1 = 0
    return int(areas[0]), areas[1:]


def segments_from_groups(
    ids: Tensor, areas: Tensor, group_of_id: Tensor, class_of_group: Tensor
) -> tuple[Tensor, Tensor]:
    """Make one segment of every group of ids that is present, in ascending order of groups.

    Args:
        ids: (H, W) non-negative integers.
        areas: (N,) pixels of each id, as `count_ids` returns them.
        group_of_id: (N,) int64, VOID where the id means no segment.
        class_of_group: (G,) int64 class id of each group.

    Returns:
        segment_map (H, W) int32 and labels (T,) int64.
    """
    present = torch.zeros(len(class_of_group) + 1, dtype=torch.bool)
    present[group_of_id[areas > 0]] = True  # VOID, -1, marks the last entry
    present[-1] = False
    index = _renumbered(present)
    return look_up(index[group_of_id], ids), class_of_group[present[:-1]]


def segments_from_ids(ids: Tensor, class_of_id: Tensor, areas: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Make one segment of every id that is present, in ascending order of ids.

    Args:
        ids: (H, W) non-negative integers.
        class_of_id: (N,) int64 class id of each id that may occur, VOID where the id means no segment.
        areas: (N,) pixels of each id; None: they are counted here.

    Returns:
        segment_map (H, W) int32 and labels (T,) int64.
    """
    areas = count_ids(ids, len(class_of_id)) if areas is None else areas
    group_of_id = torch.arange(len(class_of_id)).masked_fill_(class_of_id == VOID, VOID)
    return segments_from_groups(ids, areas, group_of_id, class_of_id)


def merge_classes(segment_map: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Join all segments of a class into one, in ascending order of classes (semantic segmentation).

    Args:
        segment_map: (H, W) int32.
        labels: (T,) int64.

    Returns:
        segment_map (H, W) int32 and labels (classes,) int64.
    """
    classes, index = torch.unique(labels, return_inverse=True)
    return _replace(segment_map, index.int()), classes


def select_classes(segment_map: Tensor, labels: Tensor, classes: Iterable[int]) -> tuple[Tensor, Tensor]:
    """Keep the segments of some classes; the pixels of the others become void.

    Args:
        segment_map: (H, W) int32.
        labels: (T,) int64.
        classes: class ids to keep.

    Returns:
        segment_map (H, W) int32 and labels (kept,) int64.
    """
    return keep_segments(segment_map, labels, torch.isin(labels, torch.tensor(list(classes), dtype=torch.int64)))


def drop_empty(segment_map: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Remove the segments that own no pixel (a crop leaves such behind).

    Args:
        segment_map: (H, W) int32.
        labels: (T,) int64.

    Returns:
        segment_map (H, W) int32 and labels (present,) int64.
    """
    return keep_segments(segment_map, labels, count_segments(segment_map, len(labels))[1] > 0)


def keep_segments(segment_map: Tensor, labels: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the segments that a boolean (T,) tensor marks and renumber them; the pixels of the others become void."""
    if bool(keep.all()):
        return segment_map, labels
    return _replace(segment_map, _renumbered(keep)), labels[keep]


def _renumbered(keep: Tensor) -> Tensor:
    """Return (N,) int32: the place of each entry among those that are kept, VOID for the others."""
    return (keep.cumsum(0) - 1).masked_fill_(~keep, VOID).int()


def _replace(segment_map: Tensor, new_index: Tensor) -> Tensor:
    """Return the segment map with other indices; void stays void."""
    return look_up(torch.cat([new_index.new_full((1,), VOID), new_index]), segment_map + 1)
