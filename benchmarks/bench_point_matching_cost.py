"""point_matching_cost against the costs that transformers' matcher computes, before it solves the assignment."""

from __future__ import annotations

import pytest
import torch

from benchmarks import scenes
from benchmarks.case import Case, case_name, optional, peers_autocast, peers_inputs
from maskformer_ext.ops import SegmentTargets, point_matching_cost

SMALL = {"layers": 2, "images": 1, "queries": 4, "segments": 3, "size": 16, "target_size": 64, "count": 50}
ON_GPU = [{"images": 16, "targets": targets} for targets in ("segment_map", "masks")]


def build(
    *,
    device: str,
    targets: str = "segment_map",
    dtype: str = "float32",
    layers: int = 10,
    images: int = 2,
    queries: int = 100,
    segments: int = 20,
    size: int = 128,
    target_size: int = 512,
    classes: int = 150,
    count: int = 12544,
) -> Case:
    """Make predictions of all layers, points of each layer and image, and targets as a `segment_map` or as `masks`."""
    theirs = optional("transformers.models.mask2former.modeling_mask2former")
    generator = torch.Generator().manual_seed(13)
    segment_map = scenes.segment_maps(images, segments, target_size)
    labels = torch.randint(classes, (images, segments), generator=generator)
    as_map = SegmentTargets(segment_map, labels, torch.full((images,), segments))
    masks = as_map.to_masks().masks.float().to(device)
    given = (as_map if targets == "segment_map" else as_map.to_masks()).to(device)
    labels = labels.to(device)
    kind = getattr(torch, dtype)
    class_logits = torch.randn(layers, images, queries, classes + 1, generator=generator).to(device, kind)
    mask_logits = torch.randn(layers, images, queries, size, size, generator=generator).mul_(3).to(device, kind)
    points = torch.rand(layers, images, count, 2, generator=generator).to(device)
    their_classes, their_logits = peers_inputs(class_logits, mask_logits)

    def their_cost(classes_of, logits, image, place):
        at_points = theirs.sample_point(logits[:, None], place.expand(queries, -1, -1), align_corners=False)[:, 0]
        inside = theirs.sample_point(masks[image][:, None], place.expand(segments, -1, -1), align_corners=False)[:, 0]
        cost = -2.0 * classes_of.softmax(-1)[:, labels[image]]
        cost = cost + 5.0 * theirs.pair_wise_sigmoid_cross_entropy_loss(at_points, inside)
        return cost + 5.0 * theirs.pair_wise_dice_loss(at_points, inside)

    def peer():
        with peers_autocast(class_logits):
            costs = [
                their_cost(their_classes[layer, image], their_logits[layer, image], image, points[layer, image][None])
                for layer in range(layers)
                for image in range(images)
            ]
        return torch.stack(costs).unflatten(0, (layers, images))

    precision = "" if dtype == "float32" else f", {dtype}"
    return Case(
        op="point_matching_cost",
        title=f"L {layers}, B {images}, Q {queries}, T {segments}, P {count}, {size}x{size}, "
        f"targets {target_size}x{target_size}, {targets.replace('_', ' ')}{precision}",
        ours=lambda: point_matching_cost(class_logits, mask_logits, given, points),
        peers={"transformers": peer} if theirs else {},
        no_peer="transformers is not installed",
        tolerance=1e-5 if dtype == "float32" else 2e-2,
        inputs={"class_logits": class_logits, "mask_logits": mask_logits, "points": points},
        notes=("the peer is given float32 masks, the only form that it takes",),
    )


@pytest.mark.parametrize("targets", ["segment_map", "masks"])
def test_point_matching_cost(compare, targets):
    """All predictions of a Mask2Former, with both forms of targets."""
    compare(targets=targets)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_point_matching_cost_on_a_gpu(compare_on_gpu, parameters):
    """The same for 16 images."""
    compare_on_gpu(**parameters)
