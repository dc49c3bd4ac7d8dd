"""Samples from outlines: what each task makes of overlaps, crowd regions, stuff, and pixels outside of everything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maskformer_ext.data.classes import ClassTable, palette
from maskformer_ext.data.readers.outlines import Outline, sample_of_outlines, with_background
from maskformer_ext.data.tasks import TaskView
from maskformer_ext.data.types import Sample
from maskformer_ext.errors import UserError

_IMAGE = torch.zeros(3, 8, 12, dtype=torch.uint8)
_TABLE = ClassTable(("car", "road"), palette(2), things=(0,))


def _box(label: int, x0: int, y0: int, x1: int, y1: int, *, crowd: bool = False) -> Outline:
    return Outline(f"box {x0}", label, [[x0, y0, x1, y0, x1, y1, x0, y1]], crowd)


def _sample(task: str, outlines: list[Outline], background: str = "") -> Sample:
    table, label = with_background(_TABLE, background)
    return sample_of_outlines(_IMAGE, "a", outlines, TaskView("x", table, task), Path("a.json"), background=label)


def test_a_smaller_object_lies_on_top_and_whole_masks_are_kept() -> None:
    sample = _sample("instance", [_box(0, 0, 0, 8, 8), _box(0, 2, 2, 4, 4)])
    assert sample.segment_map[3, 3] == 1 and sample.segment_map[0, 0] == 0 and sample.segment_map[0, 11] == -1
    assert sample.masks is not None and sample.masks.sum((1, 2)).tolist() == [64, 4]
    assert sample.truth is not None and [one.area for one in sample.truth.instances or ()] == [64, 4]


def test_semantic_joins_a_class_and_knows_the_class_of_crowds() -> None:
    sample = _sample("semantic", [_box(0, 0, 0, 2, 2), _box(0, 4, 0, 6, 2), _box(0, 8, 0, 10, 2, crowd=True)])
    assert sample.labels.tolist() == [0] and sample.truth is None
    assert int((sample.segment_map == 0).sum()) == 12 and int((sample.segment_map == -1).sum()) == 84


def test_background_owns_what_no_outline_does() -> None:
    sample = _sample("semantic", [_box(0, 0, 0, 2, 2)], background="rest")
    assert sample.labels.tolist() == [0, 2] and int((sample.segment_map == 1).sum()) == 92


def test_panoptic_joins_stuff_keeps_things_apart_and_scores_crowds() -> None:
    outlines = [_box(0, 0, 0, 2, 2), _box(0, 4, 0, 6, 2), _box(1, 0, 4, 2, 6), _box(1, 4, 4, 6, 6)]
    sample = _sample("panoptic", [*outlines, _box(0, 8, 0, 10, 2, crowd=True)], background="rest")
    assert sample.labels.tolist() == [0, 0, 1, 2]
    assert int((sample.segment_map == 2).sum()) == 8  # both parts of the road
    assert bool((sample.segment_map[:2, 8:10] == -1).all())  # the crowd is void in training
    truth = sample.scored()
    assert truth.crowd is not None and truth.labels[truth.crowd].tolist() == [0]
    assert int((truth.segment_map == int(truth.crowd.nonzero())).sum()) == 4


@pytest.mark.parametrize("task", ["instance", "semantic", "panoptic"])
def test_an_image_without_outlines_is_a_sample(task: str) -> None:
    sample = _sample(task, [])
    assert sample.labels.tolist() == [] and bool((sample.segment_map == -1).all())


def test_a_class_of_the_file_may_be_the_background() -> None:
    table, label = with_background(_TABLE, "road")
    assert (table.classes, label, table.things) == (_TABLE.classes, 1, (0,))


def test_what_is_no_outline_is_named() -> None:
    with pytest.raises(UserError, match=r"^a.json: the segmentation of line 3 is neither polygons nor run lengths of"):
        _sample("instance", [Outline("line 3", 0, [[1, 2, 3]])])
