"""Targets of random segments, and the options of the matching costs, for the tests of several ops."""

import torch

from maskformer_ext.ops import SegmentTargets
from maskformer_ext.ops.support.matching import CostOptions

PARTS = ("class_weight", "focal_weight", "dice_weight")
DEFAULTS = CostOptions()._asdict()


def random_targets(
    images: int,
    counts: list[int],
    capacity: int,
    size: tuple[int, int],
    classes: int,
    *,
    void: float = 0.1,
    cell: int = 4,
) -> SegmentTargets:
    """Blocky random maps, so that segments have runs of several pixels; some segments may be empty."""
    height, width = size
    maps = torch.full((images, height, width), -1, dtype=torch.int32)
    for image, count in enumerate(counts):
        if count:
            blocks = torch.randint(0, count, (-(-height // cell), -(-width // cell)))
            pixels = blocks.repeat_interleave(cell, 0).repeat_interleave(cell, 1)[:height, :width].int()
            maps[image] = torch.where(torch.rand(height, width) < void, -1, pixels)
    return SegmentTargets(maps, torch.randint(0, classes, (images, capacity)), torch.tensor(counts))
