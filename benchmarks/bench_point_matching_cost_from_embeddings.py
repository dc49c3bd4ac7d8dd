"""point_matching_cost_from_embeddings against einsum and transformers' costs, and against our own two steps."""

from __future__ import annotations

import pytest
import torch

from benchmarks import scenes
from benchmarks.case import Case, case_name, optional, peers_autocast, peers_inputs
from maskformer_ext.ops import SegmentTargets, mask_dot, point_matching_cost, point_matching_cost_from_embeddings

SMALL = {"layers": 2, "images": 1, "queries": 4, "segments": 3, "channels": 8, "size": 16, "count": 50}
ON_GPU = [{"images": 16, "dtype": dtype} for dtype in ("float32", "bfloat16")]


def build(
    *,
    device: str,
    dtype: str = "float32",
    layers: int = 10,
    images: int = 2,
    queries: int = 100,
    segments: int = 20,
    channels: int = 256,
    classes: int = 150,
    size: int = 128,
    count: int = 12544,
) -> Case:
    """Make embeddings of all layers, points of each layer and image, and a segment map of four times the size."""
    theirs = optional("transformers.models.mask2former.modeling_mask2former")
    generator = torch.Generator().manual_seed(14)
    segment_map = scenes.segment_maps(images, segments, 4 * size)
    labels = torch.randint(classes, (images, segments), generator=generator)
    as_map = SegmentTargets(segment_map, labels, torch.full((images,), segments))
    masks = as_map.to_masks().masks.float().to(device)
    targets, labels = as_map.to(device), labels.to(device)
    kind = getattr(torch, dtype)
    class_logits = torch.randn(layers, images, queries, classes + 1, generator=generator).to(device, kind)
    embed = torch.randn(layers, images, queries, channels, generator=generator).to(device, kind)
    features = (torch.randn(images, channels, size, size, generator=generator) / channels**0.5).to(device, kind)
    points = torch.rand(layers, images, count, 2, generator=generator).to(device)
    their_classes, their_embed, their_features = peers_inputs(class_logits, embed, features)

    def their_cost(classes_of, logits, image, place):
        at_points = theirs.sample_point(logits[:, None], place.expand(queries, -1, -1), align_corners=False)[:, 0]
        inside = theirs.sample_point(masks[image][:, None], place.expand(segments, -1, -1), align_corners=False)[:, 0]
        cost = -2.0 * classes_of.softmax(-1)[:, labels[image]]
        cost = cost + 5.0 * theirs.pair_wise_sigmoid_cross_entropy_loss(at_points, inside)
        return cost + 5.0 * theirs.pair_wise_dice_loss(at_points, inside)

    def peer():
        costs = []
        with peers_autocast(embed):
            for layer in range(layers):
                logits = torch.einsum("bqc,bchw->bqhw", their_embed[layer], their_features)
                for image in range(images):
                    place = points[layer, image][None]
                    costs.append(their_cost(their_classes[layer, image], logits[image].float(), image, place))
        return torch.stack(costs).unflatten(0, (layers, images))

    def two_steps():
        return point_matching_cost(class_logits, mask_dot(embed, features), targets, points)

    precision = "" if dtype == "float32" else f", {dtype}"
    return Case(
        op="point_matching_cost_from_embeddings",
        title=f"L {layers}, B {images}, Q {queries}, T {segments}, C {channels}, P {count}, {size}x{size}, "
        f"targets {4 * size}x{4 * size}, segment map{precision}",
        ours=lambda: point_matching_cost_from_embeddings(class_logits, embed, features, targets, points),
        peers={
            **({"einsum + transformers": peer} if theirs else {}),
            "mask_dot, then point_matching_cost": two_steps,
        },
        tolerance=1e-5 if dtype == "float32" else 2e-2,
        inputs={"class_logits": class_logits, "mask_embed": embed, "mask_features": features, "points": points},
        notes=("the peer is given float32 masks, the only form that it takes",),
    )


def test_point_matching_cost_from_embeddings(compare):
    """All predictions of a Mask2Former."""
    compare()


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_point_matching_cost_from_embeddings_on_a_gpu(compare_on_gpu, parameters):
    """The same for 16 images."""
    compare_on_gpu(**parameters)
