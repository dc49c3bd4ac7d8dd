"""Targets with one thing wrong, and predictions for them."""

from __future__ import annotations

import torch

from maskformer_ext.modeling.outputs import MaskFormerOutput
from maskformer_ext.ops import SegmentTargets

CLASSES, QUERIES = 4, 6


def make_targets(fault: str = "none", device: str = "cpu") -> SegmentTargets:
    """Two images with three and one segments, and one thing wrong with the second, after the pairs were listed."""
    segment_map = torch.randint(-1, 1, (2, 16, 16), dtype=torch.int32)
    segment_map[0, :4] = torch.arange(16, dtype=torch.int32) % 3
    labels = torch.tensor([[0, 3, 2], [1, 0, 0]])
    targets = SegmentTargets(segment_map, labels, torch.tensor([3, 1])).with_pairs()
    if fault == "id":
        segment_map[1, 5, 3] = 1
    elif fault == "negative id":
        segment_map[1, 5, 3] = -2
    elif fault == "label":
        labels[1, 0] = CLASSES
    elif fault == "count":
        targets.num_segments[1] = 4
    return targets.to(device)


FAULTS = {
    "id": r"targets\.segment_map must hold ids in \[-1, 1\) for image 1, got -1 to 1",
    "negative id": r"targets\.segment_map must hold ids in \[-1, 1\) for image 1, got -2 to 0",
    "label": r"targets\.labels must lie in \[0, K\) with K = 4, got 4 for segment 0 of image 1",
    "count": r"targets\.num_segments must lie in \[0, T\] with T = 3, got \[3, 4\]",
}


def predictions(device: str = "cpu") -> MaskFormerOutput:
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 2, QUERIES, CLASSES + 1), (2, 2, QUERIES, 8), (2, 8, 4, 4)
    return MaskFormerOutput(*(torch.randn(*shape, generator=generator).to(device) for shape in shapes))
