"""matching_cost against the costs that transformers' matcher computes, before it solves the assignment."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers.models.maskformer.modeling_maskformer import pair_wise_dice_loss, pair_wise_sigmoid_focal_loss

from benchmarks import scenes
from benchmarks.case import Case
from maskformer_ext.ops import SegmentTargets, matching_cost

SMALL = {"images": 1, "queries": 4, "segments": 3, "size": 16, "target_size": 64}


def build(
    *,
    device: str,
    targets: str,
    images: int = 2,
    queries: int = 100,
    segments: int = 30,
    size: int = 128,
    target_size: int = 512,
    classes: int = 150,
) -> Case:
    """Make predictions of `images` and targets as a `segment_map` or as `masks` (the peer takes float masks only)."""
    generator = torch.Generator().manual_seed(1)
    segment_map = scenes.segment_maps(images, segments, target_size)
    labels = torch.randint(classes, (images, segments), generator=generator).to(device)
    class_logits = torch.randn(images, queries, classes + 1, generator=generator).to(device)
    mask_logits = 3 * torch.randn(images, queries, size, size, generator=generator)
    counts = torch.full((images,), segments, device=device)
    as_map = SegmentTargets(segment_map, labels.cpu(), counts.cpu())
    given = (as_map if targets == "segment_map" else as_map.to_masks()).to(device)
    float_masks = as_map.to_masks().masks.float().to(device)
    mask_logits = mask_logits.to(device)

    def peer():
        costs = []
        for image in range(images):
            small = F.interpolate(float_masks[image][:, None], size=(size, size), mode="nearest")[:, 0].flatten(1)
            probabilities = class_logits[image].softmax(-1)
            flat = mask_logits[image].flatten(1)
            cost = -probabilities[:, labels[image]] + pair_wise_dice_loss(flat, small)
            costs.append(cost + 20.0 * pair_wise_sigmoid_focal_loss(flat, small))
        return torch.stack(costs)

    pixels = given.segment_map if targets == "segment_map" else given.masks
    sizes = f"B {images}, Q {queries}, T {segments}, {size}x{size}, targets {target_size}x{target_size}"
    return Case(
        op="matching_cost",
        title=f"{sizes}, {targets.replace('_', ' ')}",
        ours=lambda: matching_cost(class_logits, mask_logits, given),
        peers={"transformers": peer},
        tolerance=1e-5,
        inputs={"class_logits": class_logits, "mask_logits": mask_logits, "targets": pixels},
        notes=("the peer is given float32 masks, the only form that it takes",),
    )


@pytest.mark.parametrize("targets", ["segment_map", "masks"])
def test_matching_cost(compare, targets):
    """Both forms of targets."""
    compare(targets=targets)
