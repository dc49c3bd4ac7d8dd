"""Segments from label maps, against the plain definition: one boolean mask per segment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskformer_ext.data.targets import drop_empty, ids_tensor, merge_classes, segments_from_ids, select_classes
from maskformer_ext.ops.targets import SegmentTargets


def _random(seed: int, segments: int = 7, empty: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    segment_map = rng.integers(-1, segments - empty, (23, 31)).astype(np.int32)
    order = rng.permutation(segments)
    segment_map = np.where(segment_map < 0, -1, order[segment_map]).astype(np.int32)
    return torch.from_numpy(segment_map), torch.from_numpy(rng.integers(0, 4, segments))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_segments_from_ids_agree_with_the_targets_of_the_ops(dtype):
    labels = np.random.default_rng(0).choice([0, 3, 4, 255], (20, 30)).astype(dtype)
    class_of_id = torch.full((256,), -1)
    class_of_id[:6] = torch.arange(6)
    segment_map, classes = segments_from_ids(ids_tensor(labels), class_of_id)
    expected = SegmentTargets.from_label_map(torch.from_numpy(labels.astype(np.int64)))
    assert torch.equal(segment_map, expected.segment_map[0]) and segment_map.dtype == torch.int32
    assert classes.tolist() == expected.labels[0].tolist() == [0, 3, 4]


def test_segments_of_a_void_image():
    segment_map, classes = segments_from_ids(torch.full((4, 5), 255, dtype=torch.uint8), torch.full((256,), -1))
    assert (segment_map == -1).all() and len(classes) == 0


@pytest.mark.parametrize("seed", range(3))
def test_drop_empty_keeps_every_pixel_and_label(seed):
    segment_map, labels = _random(seed)
    kept_map, kept_labels = drop_empty(segment_map, labels)
    present = segment_map[segment_map >= 0].unique()
    assert torch.equal(kept_labels, labels[present.long()])
    for new, old in enumerate(present.tolist()):
        assert torch.equal(kept_map == new, segment_map == old)
    assert torch.equal(kept_map == -1, segment_map == -1)


@pytest.mark.parametrize("seed", range(3))
def test_merge_and_select_classes(seed):
    segments = _random(seed, empty=0)
    segment_map, labels = (part.numpy() for part in segments)
    merged_map, classes = (part.numpy() for part in merge_classes(*segments))
    chosen_map, chosen = (part.numpy() for part in select_classes(*segments, [1, 2]))
    assert classes.tolist() == sorted(set(labels.tolist()))
    class_map = np.append(labels, -1)[segment_map]
    assert np.array_equal(np.append(classes, -1)[merged_map], class_map)
    assert set(chosen.tolist()) <= {1, 2} and len(chosen) == np.isin(labels, [1, 2]).sum()
    assert np.array_equal(np.append(chosen, -1)[chosen_map], np.where(np.isin(class_map, [1, 2]), class_map, -1))
