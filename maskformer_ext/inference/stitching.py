"""Join the results of overlapping tiles: segments that two tiles see become one segment of the image."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskformer_ext.inference.tiles import SAME_IOU, Groups, Tile, owners
from maskformer_ext.ops.counting import joint_histogram

KEPT_SHARE = 0.5
"""A thing of which the owning tiles show less than this share is left out: its neighbours did not see it."""


def stitch_panoptic(
    maps: Sequence[np.ndarray],
    infos: Sequence[Sequence[Mapping[str, Any]]],
    tiles: list[Tile],
    size: tuple[int, int],
    thing_classes: Collection[int],
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Join panoptic results of tiles.

    Every pixel takes its segment from the tile that owns it. Things of one class that agree where two tiles overlap are
    one segment. Stuff of one class is one segment.

    Args:
        maps: for each tile (h, w) integer segment ids, 0 = void.
        infos: for each tile ``id``, ``category_id``, ``isthing`` and ``score`` of its segments.
        tiles: where the tiles lie.
        size: height and width of the image.
        thing_classes: ids of the thing classes.

    Returns:
        (H, W) int32 segment ids from 1, 0 = void; ``id``, ``category_id``, ``isthing``, ``score``, ``area`` of each.
    """
    segments = [dict(info) for tile_infos in infos for info in tile_infos]
    first = np.cumsum([0, *(len(tile_infos) for tile_infos in infos)])
    dense = []  # the segments' numbers over all tiles, -1 = void
    for segment_map, tile_infos, start in zip(maps, infos, first, strict=False):
        table = np.full(max([0, *(info["id"] for info in tile_infos)]) + 1, -1, dtype=np.int64)
        table[[info["id"] for info in tile_infos]] = np.arange(len(tile_infos)) + start
        dense.append(table[segment_map])

    groups = Groups(len(segments))
    _join_things(groups, dense, first, segments, tiles, set(thing_classes))
    stuff: dict[int, int] = {}
    for number, info in enumerate(segments):
        if info["category_id"] not in thing_classes:
            groups.join(number, stuff.setdefault(info["category_id"], number))

    owner = owners(tiles, *size)
    numbers = np.full(size, -1, dtype=np.int64)
    for index, (tile, part) in enumerate(zip(tiles, dense, strict=True)):
        mine = owner[tile.window] == index
        numbers[tile.window][mine] = part[mine]
    return _renumber(numbers, dense, segments, groups, set(thing_classes))


def _join_things(
    groups: Groups,
    dense: Sequence[np.ndarray],
    first: np.ndarray,
    segments: Sequence[Mapping[str, Any]],
    tiles: list[Tile],
    thing_classes: set[int],
) -> None:
    """Put things of one class that agree where two tiles overlap into one group; arguments as in `stitch_panoptic`."""
    is_thing = np.array([info["category_id"] in thing_classes for info in segments], dtype=bool)
    category = np.array([info["category_id"] for info in segments], dtype=np.int64)
    for i, j, common in overlapping(tiles):
        here = dense[i][common.within(tiles[i])]
        there = dense[j][common.within(tiles[j])]
        count_i, count_j = first[i + 1] - first[i], first[j + 1] - first[j]
        # Row and column 0 are void, so that the sums are whole areas inside the shared region.
        table = joint_histogram(
            np.where(here < 0, 0, here - first[i] + 1),
            np.where(there < 0, 0, there - first[j] + 1),
            count_i + 1,
            count_j + 1,
        )
        both = table[1:, 1:]
        union = table.sum(1)[1:, None] + table.sum(0)[None, 1:] - both
        rows, columns = np.nonzero(both > SAME_IOU * np.maximum(union, 1))
        for a, b in zip(rows + first[i], columns + first[j], strict=True):
            if is_thing[a] and is_thing[b] and category[a] == category[b]:
                groups.join(int(a), int(b))


def _renumber(
    numbers: np.ndarray,
    dense: Sequence[np.ndarray],
    segments: Sequence[Mapping[str, Any]],
    groups: Groups,
    thing_classes: set[int],
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Number the groups that are shown well enough from 1, and describe them."""
    count = len(segments)
    shown = np.bincount(numbers[numbers >= 0], minlength=count)
    seen = np.zeros(count, dtype=np.int64)
    for part in dense:
        seen += np.bincount(part[part >= 0], minlength=count)
    members: dict[int, list[int]] = {}
    for number in range(count):
        members.setdefault(groups.find(number), []).append(number)
    new_id = np.zeros(count + 1, dtype=np.int32)  # the last entry, which index -1 reads, is void
    result: list[dict[str, Any]] = []
    for root, parts in members.items():
        area = int(shown[parts].sum())
        category = segments[root]["category_id"]
        if area == 0 or (category in thing_classes and area < KEPT_SHARE * seen[parts].max()):
            continue
        score = float((np.array([segments[part]["score"] for part in parts]) * shown[parts]).sum() / area)
        new_id[parts] = len(result) + 1
        result.append(
            {
                "id": len(result) + 1,
                "category_id": category,
                "isthing": category in thing_classes,
                "score": score,
                "area": area,
            }
        )
    return new_id[numbers], result


def overlapping(tiles: list[Tile]) -> list[tuple[int, int, Tile]]:
    """Return the pairs of tiles that share pixels, and what they share."""
    pairs = ((i, j, tiles[i].shared(tiles[j])) for i in range(len(tiles)) for j in range(i + 1, len(tiles)))
    return [(i, j, common) for i, j, common in pairs if common is not None]


@dataclass
class Piece:
    """One instance as one tile, or several joined, see it.

    Attributes:
        mask: (h, w) bool, cut to the instance's box.
        top: first row of ``mask`` in the image.
        left: first column of ``mask`` in the image.
        label: class id.
        score: in 0..1.
    """

    mask: np.ndarray
    top: int
    left: int
    label: int
    score: float

    def inside(self, region: Tile) -> np.ndarray:
        """Return the mask in a rectangle of the image, (h, w) bool."""
        canvas = np.zeros((region.bottom - region.top, region.right - region.left), dtype=bool)
        own = Tile(self.top, self.left, self.top + self.mask.shape[0], self.left + self.mask.shape[1])
        common = own.shared(region)
        if common is not None:
            canvas[common.within(region)] = self.mask[common.within(own)]
        return canvas


def cut_piece(mask: np.ndarray, label: int, score: float, tile: Tile) -> Piece | None:
    """Cut a tile's instance mask (h, w) to its box; None where it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    top, left = int(rows[0]), int(columns[0])
    cut = mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    return Piece(np.ascontiguousarray(cut), tile.top + top, tile.left + left, label, score)


def stitch_instances(pieces: Sequence[Sequence[Piece]], tiles: list[Tile]) -> list[Piece]:
    """Join instances of tiles: those of one class that agree where two tiles overlap become their union.

    Args:
        pieces: the instances of each tile.
        tiles: where the tiles lie.

    Returns:
        The instances of the image, the best score of its parts each, best first.
    """
    everything = [piece for tile_pieces in pieces for piece in tile_pieces]
    first = np.cumsum([0, *(len(tile_pieces) for tile_pieces in pieces)])
    labels = np.array([piece.label for piece in everything], dtype=np.int64)
    groups = Groups(len(everything))
    for i, j, common in overlapping(tiles):
        here, there = _visible(pieces[i], common), _visible(pieces[j], common)
        if not here or not there:
            continue
        a = np.stack([mask.reshape(-1) for _, mask in here]).astype(np.float32)
        b = np.stack([mask.reshape(-1) for _, mask in there]).astype(np.float32)
        both = a @ b.T
        union = a.sum(1)[:, None] + b.sum(1)[None, :] - both
        for row, column in np.argwhere(both > SAME_IOU * union):
            one, other = int(first[i]) + here[row][0], int(first[j]) + there[column][0]
            if labels[one] == labels[other]:
                groups.join(one, other)
    members: dict[int, list[Piece]] = {}
    for number, piece in enumerate(everything):
        members.setdefault(groups.find(number), []).append(piece)
    return sorted((_union(parts) for parts in members.values()), key=lambda piece: -piece.score)


def _visible(pieces: Sequence[Piece], region: Tile) -> list[tuple[int, np.ndarray]]:
    """Return index and mask, inside a region, of the pieces that have a pixel there."""
    masks = ((index, piece.inside(region)) for index, piece in enumerate(pieces))
    return [(index, mask) for index, mask in masks if mask.any()]


def _union(parts: Sequence[Piece]) -> Piece:
    if len(parts) == 1:
        return parts[0]
    frame = Tile(
        min(part.top for part in parts),
        min(part.left for part in parts),
        max(part.top + part.mask.shape[0] for part in parts),
        max(part.left + part.mask.shape[1] for part in parts),
    )
    mask = np.any([part.inside(frame) for part in parts], axis=0)
    return Piece(mask, frame.top, frame.left, parts[0].label, max(part.score for part in parts))
