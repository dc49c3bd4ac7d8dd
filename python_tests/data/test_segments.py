"""Segments from label maps, against the plain definition: one boolean mask a segment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskformer_ext.data.targets import drop_empty, merge_classes, segments_from_ids, select_classes
from maskformer_ext.ops.targets import SegmentTargets


def _random(seed: int, segments: int = 7, empty: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    segment_map = rng.integers(-1, segments - empty, (23, 31)).astype(np.int32)
    order = rng.permutation(segments)
    return np.where(segment_map < 0, -1, order[segment_map]).astype(np.int32), rng.integers(0, 4, segments)


def test_segments_from_ids_agree_with_the_targets_of_the_ops():
    labels = np.random.default_rng(0).choice([0, 3, 4, 255], (20, 30)).astype(np.uint8)
    class_of_id = np.full(256, -1)
    class_of_id[:6] = np.arange(6)
    segment_map, classes = segments_from_ids(labels, class_of_id)
    expected = SegmentTargets.from_label_map(torch.from_numpy(labels))
    assert np.array_equal(segment_map, expected.segment_map[0].numpy()) and segment_map.dtype == np.int32
    assert classes.tolist() == expected.labels[0].tolist() == [0, 3, 4]


def test_segments_of_a_void_image():
    segment_map, classes = segments_from_ids(np.full((4, 5), 255, np.uint8), np.full(256, -1))
    assert (segment_map == -1).all() and len(classes) == 0


@pytest.mark.parametrize("seed", range(3))
def test_drop_empty_keeps_every_pixel_and_label(seed):
    segment_map, labels = _random(seed)
    kept_map, kept_labels = drop_empty(segment_map, labels)
    present = np.unique(segment_map[segment_map >= 0])
    assert np.array_equal(kept_labels, labels[present])
    for new, old in enumerate(present):
        assert np.array_equal(kept_map == new, segment_map == old)
    assert np.array_equal(kept_map == -1, segment_map == -1)


@pytest.mark.parametrize("seed", range(3))
def test_merge_and_select_classes(seed):
    segment_map, labels = _random(seed, empty=0)
    merged_map, classes = merge_classes(segment_map, labels)
    chosen_map, chosen = select_classes(segment_map, labels, [1, 2])
    assert classes.tolist() == sorted(set(labels.tolist()))
    class_map = np.append(labels, -1)[segment_map]
    assert np.array_equal(np.append(classes, -1)[merged_map], class_map)
    assert set(chosen.tolist()) <= {1, 2} and len(chosen) == np.isin(labels, [1, 2]).sum()
    assert np.array_equal(np.append(chosen, -1)[chosen_map], np.where(np.isin(class_map, [1, 2]), class_map, -1))
