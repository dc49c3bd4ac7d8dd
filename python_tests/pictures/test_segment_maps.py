"""Boxes, areas and owners of segments, against the plainest way to count them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskformer_ext.ops.instance_inference import Instances
from maskformer_ext.ops.support.rle import run_lengths
from maskformer_ext.pictures import segment_maps
from maskformer_ext.pictures.segment_maps import bands, boxes_and_areas, index_of, instance_owners, present_values


@pytest.mark.parametrize("seed", range(8))
def test_boxes_and_areas_are_those_of_the_masks(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 40, 2)
    ids = random.integers(0, 6, (height, width)).astype(np.uint16) * 3
    monkeypatch.setattr(segment_maps, "bands", lambda height, width: bands(height, width, 50))
    boxes, areas = boxes_and_areas(ids, 20)
    assert len(areas) == 20
    assert present_values(ids) == sorted(set(ids.ravel().tolist()))
    for value in range(20):
        rows, columns = np.nonzero(ids == value)
        assert areas[value] == len(rows)
        if len(rows):
            assert boxes[value].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_places_of_ids() -> None:
    np.testing.assert_array_equal(index_of(np.array([[0, 7, 3, 9]]), [3, 7]), [[-1, 1, 0, -1]])
    np.testing.assert_array_equal(index_of(np.array([[0, 1]]), []), [[-1, -1]])


@pytest.mark.parametrize("seed", range(8))
def test_the_better_instance_owns_a_pixel(seed: int) -> None:
    random = np.random.default_rng(seed)
    count, height, width = 5, *random.integers(1, 30, 2)
    masks = random.random((count, height, width)) < 0.4
    scores = random.choice([0.2, 0.5, 0.7, 0.9], count).astype(np.float32)
    packed = torch.from_numpy(np.packbits(masks, axis=-1, bitorder="little"))
    result = Instances(
        torch.from_numpy(scores), torch.zeros(count), torch.zeros(count, 4), packed, (int(height), int(width))
    )
    expected = np.zeros((height, width), dtype=np.int64)
    for index in np.argsort(scores, kind="stable"):
        if scores[index] >= 0.5:
            expected[masks[index]] = index + 1
    np.testing.assert_array_equal(instance_owners(result, 0.5), expected)


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_are_those_of_the_columns(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = (int(side) for side in random.integers(1, 40, 2))
    mask = np.zeros((height, width), dtype=bool)
    y0, x0 = (int(random.integers(0, side)) for side in (height, width))
    y1, x1 = int(random.integers(y0, height)) + 1, int(random.integers(x0, width)) + 1
    mask[y0:y1, x0:x1] = random.random((y1 - y0, x1 - x0)) < random.choice([0.0, 0.3, 0.9, 1.0])
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(np.diff(flat.astype(np.int8)))
    expected = np.diff(np.concatenate([[0], edges, [height * width]]))
    if len(expected) > 1 and expected[-1] == 0:
        expected = expected[:-1]
    packed = np.packbits(mask, axis=-1, bitorder="little")
    assert run_lengths(packed, (x0, y0, x1, y1), (height, width)).tolist() == expected.tolist()
