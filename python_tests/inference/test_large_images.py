"""Images in tiles: the whole image comes back, and things that several tiles see stay one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from paint import THINGS, PaintModel, paint, same_partition, scene

from maskformer_ext.inference import segment, segment_tasks
from maskformer_ext.inference.tiles import make_tiles, owners


@pytest.mark.parametrize("tile", [24, 32, 50])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_tiles_give_the_whole_image(tile: int, batch_size: int) -> None:
    segments, labels = scene((70, 96), things=20, seed=1)
    model = PaintModel(3, size_divisibility=8)
    arguments: dict[str, Any] = {"thing_classes": THINGS, "tile": tile, "batch_size": batch_size, "top_k": 200}
    results = segment_tasks(model, [paint(segments, labels)], ("semantic", "panoptic", "instance"), **arguments)[0]
    assert max(max(shape[-2:]) for shape in model.shapes) <= -(-tile // 8) * 8
    np.testing.assert_array_equal(results["semantic"].class_map, np.array([0, *labels])[segments])
    panoptic = results["panoptic"]
    assert same_partition(panoptic.segment_map.numpy(), segments)
    assert sorted(info["category_id"] for info in panoptic.segments_info) == sorted(labels)
    assert sum(info["area"] for info in panoptic.segments_info) == segments.size
    instances = results["instance"]
    confident = instances[instances.scores > 0.5]
    expected = {(segments == n).tobytes() for n in range(2, len(labels) + 1)}
    assert {mask.numpy().tobytes() for mask in confident.masks} == expected
    assert len(confident) == len(expected)
    for box, mask in zip(confident.boxes.tolist(), confident.masks.numpy(), strict=True):
        rows, columns = np.nonzero(mask)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_tiles_find_more_things_than_there_are_queries() -> None:
    segments, labels = scene((64, 128), things=40, seed=2)
    model = PaintModel(3, num_queries=20)
    image = paint(segments, labels)
    whole = segment(model, image, task="panoptic", thing_classes=THINGS)
    tiled = segment(model, image, task="panoptic", thing_classes=THINGS, tile=32)
    assert len(whole.segments_info) == 20
    assert len(tiled.segments_info) == 41


def test_a_thing_longer_than_a_tile_stays_one() -> None:
    segments = np.ones((40, 160), dtype=np.int64)
    segments[18:25, 4:150] = 2
    found = segment(PaintModel(3), paint(segments, [0, 1]), task="panoptic", thing_classes=THINGS, tile=32)
    assert [(info["category_id"], info["area"]) for info in found.segments_info] == [
        (0, 40 * 160 - 7 * 146),
        (1, 7 * 146),
    ]


@pytest.mark.parametrize(
    ("height", "width", "side"), [(70, 96, 32), (10, 100, 32), (33, 33, 32), (20, 20, 32), (9, 9, 1)]
)
def test_tiles_cover_the_image_with_overlap(height: int, width: int, side: int) -> None:
    tiles = make_tiles(height, width, side)
    covered = np.zeros((height, width), dtype=int)
    for tile in tiles:
        covered[tile.window] += 1
        assert covered[tile.window].shape == (min(side, height), min(side, width))
    assert covered.min() >= 1
    lefts = sorted({tile.left for tile in tiles})
    assert all(after - before <= side - side // 4 or side == 1 for before, after in pairwise(lefts))
    owner = owners(tiles, height, width)
    for index, tile in enumerate(tiles):
        inside = np.zeros_like(covered, dtype=bool)
        inside[tile.window] = True
        assert not (owner == index)[~inside].any()
