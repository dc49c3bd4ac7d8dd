"""matching_cost against the costs that transformers' matcher computes, before it solves the assignment."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from benchmarks import scenes
from benchmarks.case import Case, case_name, optional, peers_autocast, peers_inputs
from maskformer_ext.ops import SegmentTargets, matching_cost

SMALL = {"images": 1, "queries": 4, "segments": 3, "size": 16, "target_size": 64}
ON_GPU = [
    {"targets": targets, "layers": 6, "images": 16, "segments": 20, "dtype": dtype}
    for targets in ("segment_map", "masks")
    for dtype in ("float32", "bfloat16")
]


def build(
    *,
    device: str,
    targets: str,
    dtype: str = "float32",
    layers: int = 1,
    images: int = 2,
    queries: int = 100,
    segments: int = 30,
    size: int = 128,
    target_size: int = 512,
    classes: int = 150,
) -> Case:
    """Make predictions of `layers` and `images`, and targets as a `segment_map` or as `masks`.

    The peer takes float masks only.
    """
    theirs = optional("transformers.models.maskformer.modeling_maskformer")
    generator = torch.Generator().manual_seed(1)
    kind = getattr(torch, dtype)
    segment_map = scenes.segment_maps(images, segments, target_size)
    labels = torch.randint(classes, (images, segments), generator=generator).to(device)
    class_logits = torch.randn(layers, images, queries, classes + 1, generator=generator).to(device, kind)
    mask_logits = torch.randn(layers, images, queries, size, size, generator=generator).mul_(3).to(device, kind)
    counts = torch.full((images,), segments, device=device)
    as_map = SegmentTargets(segment_map, labels.cpu(), counts.cpu())
    given = (as_map if targets == "segment_map" else as_map.to_masks()).to(device)
    float_masks = as_map.to_masks().masks.to(device, torch.float32)
    their_classes, their_logits = peers_inputs(class_logits, mask_logits)

    def peer():
        costs = []
        with peers_autocast(class_logits):
            for layer in range(layers):
                for image in range(images):
                    masks = float_masks[image][:, None]
                    small = F.interpolate(masks, size=(size, size), mode="nearest")[:, 0].flatten(1)
                    probabilities = their_classes[layer, image].softmax(-1)
                    flat = their_logits[layer, image].flatten(1)
                    cost = -probabilities[:, labels[image]] + theirs.pair_wise_dice_loss(flat, small)
                    costs.append(cost + 20.0 * theirs.pair_wise_sigmoid_focal_loss(flat, small))
        return torch.stack(costs).view(layers, images, queries, segments)

    pixels = given.segment_map if isinstance(given, SegmentTargets) else given.masks
    precision = "" if dtype == "float32" else f", {dtype}"
    sizes = (
        "" if layers == 1 else f"L {layers}, "
    ) + f"B {images}, Q {queries}, T {segments}, {size}x{size}, targets {target_size}x{target_size}"
    return Case(
        op="matching_cost",
        title=f"{sizes}, {targets.replace('_', ' ')}{precision}",
        ours=lambda: matching_cost(class_logits, mask_logits, given),
        peers={"transformers": peer} if theirs else {},
        no_peer="transformers is not installed",
        tolerance=1e-5 if dtype == "float32" else 2e-2,
        inputs={"class_logits": class_logits, "mask_logits": mask_logits, "targets": pixels},
        notes=("the peer is given float32 masks, the only form that it takes",),
    )


@pytest.mark.parametrize("targets", ["segment_map", "masks"])
def test_matching_cost(compare, targets):
    """Both forms of targets."""
    compare(targets=targets)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_matching_cost_on_a_gpu(compare_on_gpu, parameters):
    """All layers of a batch of 16 images."""
    compare_on_gpu(**parameters)
