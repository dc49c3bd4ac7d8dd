"""What a task makes of panoptic segments: which classes it tells apart, and which segments it joins or drops."""

from __future__ import annotations

import torch
from torch import Tensor

from maskformer_ext.data.classes import ClassTable
from maskformer_ext.data.targets import keep_segments, merge_classes
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.ops.targets import VOID


class TaskView:
    """The classes and segments of a data set as one task sees them.

    "panoptic" keeps all; "instance" keeps the things, renumbered from 0, and all else is void; "semantic" joins the
    segments of a class.

    Args:
        name: what reports call the data set.
        table: all classes.
        task: "panoptic", "instance" or "semantic".
        ignore_label: value of void in semantic label maps.

    Attributes:
        info: the classes that are left.
        new_class: (K,) the class id of each class of the table, VOID where the task drops it.
    """

    def __init__(self, name: str, table: ClassTable, task: str, *, ignore_label: int = 255) -> None:
        self.task = task
        kept = table.things if task == "instance" else tuple(range(len(table.classes)))
        things = () if task == "semantic" else tuple(kept.index(thing) for thing in table.things)
        classes, colors = tuple(table.classes[c] for c in kept), tuple(table.colors[c] for c in kept)
        self.info = DatasetInfo(name, classes, colors, things, ignore_label)
        self.new_class = torch.full((len(table.classes),), VOID, dtype=torch.int64)
        self.new_class[list(kept)] = torch.arange(len(kept))

    def segments(self, segment_map: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return (H, W) int32 and (T,) int64 of the segments that the task asks for.

        Args:
            segment_map: (H, W) int32 of all segments.
            labels: (T,) int64 classes of the table.
        """
        labels = self.new_class[labels]
        if self.task == "semantic":
            return merge_classes(segment_map, labels)
        if self.task == "instance":
            return keep_segments(segment_map, labels, labels != VOID)
        return segment_map, labels
