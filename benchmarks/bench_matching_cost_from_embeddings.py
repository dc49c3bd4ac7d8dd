"""matching_cost_from_embeddings against einsum and transformers' costs, and against our own two steps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from benchmarks import scenes
from benchmarks.case import Case, case_name, optional, peers_autocast, peers_inputs
from maskformer_ext.ops import SegmentTargets, mask_dot, matching_cost, matching_cost_from_embeddings

SMALL = {"layers": 2, "images": 1, "queries": 4, "segments": 3, "channels": 8, "size": 16}
ON_GPU = [{"images": 16, "dtype": dtype} for dtype in ("float32", "bfloat16")]


def build(
    *,
    device: str,
    dtype: str = "float32",
    layers: int = 6,
    images: int = 2,
    queries: int = 100,
    segments: int = 20,
    channels: int = 256,
    classes: int = 150,
    size: int = 128,
) -> Case:
    """Make embeddings of `layers` decoder layers, and a segment map of four times the features' size."""
    theirs = optional("transformers.models.maskformer.modeling_maskformer")
    generator = torch.Generator().manual_seed(6)
    segment_map = scenes.segment_maps(images, segments, 4 * size)
    labels = torch.randint(classes, (images, segments), generator=generator)
    targets = SegmentTargets(segment_map, labels, torch.full((images,), segments))
    masks = targets.to_masks().masks.float().to(device)
    targets, labels = targets.to(device), labels.to(device)
    kind = getattr(torch, dtype)
    class_logits = torch.randn(layers, images, queries, classes + 1, generator=generator).to(device, kind)
    embed = torch.randn(layers, images, queries, channels, generator=generator).to(device, kind)
    features = (torch.randn(images, channels, size, size, generator=generator) / channels**0.5).to(device, kind)
    their_classes, their_embed, their_features = peers_inputs(class_logits, embed, features)

    def peer():
        costs = []
        with peers_autocast(embed):
            small = F.interpolate(masks, size=(size, size), mode="nearest").flatten(2)
            for layer in range(layers):
                logits = torch.einsum("bqc,bchw->bqhw", their_embed[layer], their_features).flatten(2)
                for image in range(images):
                    probability = their_classes[layer, image].softmax(-1)
                    cost = -probability[:, labels[image]] + theirs.pair_wise_dice_loss(logits[image], small[image])
                    costs.append(cost + 20.0 * theirs.pair_wise_sigmoid_focal_loss(logits[image], small[image]))
        return torch.stack(costs).unflatten(0, (layers, images))

    precision = "" if dtype == "float32" else f", {dtype}"
    return Case(
        op="matching_cost_from_embeddings",
        title=f"L {layers}, B {images}, Q {queries}, T {segments}, C {channels}, {size}x{size}, "
        f"targets {4 * size}x{4 * size}, segment map{precision}",
        ours=lambda: matching_cost_from_embeddings(class_logits, embed, features, targets),
        peers={
            **({"einsum + transformers": peer} if theirs else {}),
            "mask_dot, then matching_cost": lambda: matching_cost(class_logits, mask_dot(embed, features), targets),
        },
        tolerance=1e-5 if dtype == "float32" else 2e-2,
        inputs={"class_logits": class_logits, "mask_embed": embed, "mask_features": features},
        notes=("the peer is given float32 masks, the only form that it takes",),
    )


def test_matching_cost_from_embeddings(compare):
    """All supervised layers of two images, as the criterion asks."""
    compare()


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_matching_cost_from_embeddings_on_a_gpu(compare_on_gpu, parameters):
    """All supervised layers of a batch of 16 images."""
    compare_on_gpu(**parameters)
