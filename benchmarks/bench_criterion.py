"""From embeddings to the total loss and back, against einsum and transformers' MaskFormerLoss for every layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks import scenes
from benchmarks.case import Case, case_name, optional, peers_autocast, peers_inputs, relative_error
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.outputs import MaskFormerOutput
from maskformer_ext.ops import SegmentTargets

SMALL = {"layers": 2, "images": 2, "queries": 4, "classes": 5, "segments": 3, "channels": 8, "size": 16}
ON_GPU = [
    {"images": 16, **sizes, "dtype": dtype}
    for sizes in ({}, {"segments": 30, "largest": 375, "queries": 400})
    for dtype in ("float32", "bfloat16")
]
_WEIGHTS = {"loss_cross_entropy": 1.0, "loss_mask": 20.0, "loss_dice": 1.0}


def build(
    *,
    device: str,
    dtype: str = "float32",
    layers: int = 6,
    images: int = 2,
    queries: int = 100,
    classes: int = 150,
    segments: int = 20,
    largest: int | None = None,
    channels: int = 256,
    size: int = 128,
) -> Case:
    """Make the outputs of `layers` decoder layers. Targets have four times the size of the mask features.

    Every image has `segments` segments. With `largest` one image has that many, and the mean stays `segments`.
    """
    transformers = optional("transformers.models.maskformer.modeling_maskformer")
    generator = torch.Generator().manual_seed(7)
    kind = getattr(torch, dtype)

    def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).mul_(scale).to(device, kind).requires_grad_()

    class_logits, embed = draw(layers, images, queries, classes + 1), draw(layers, images, queries, channels)
    features = draw(images, channels, size, size, scale=channels**-0.5)
    counts = scenes.segment_counts(images, segments, largest)
    segment_map = scenes.segment_maps(images, counts, 4 * size, device=device)
    labels = torch.randint(classes, (images, max(counts)), generator=generator)
    targets = SegmentTargets(segment_map.cpu(), labels, torch.tensor(counts)).with_pairs().to(device)
    masks = [scenes.masks_of(owners, count).float() for owners, count in zip(segment_map, counts, strict=True)]
    their_labels = [row[:count].to(device) for row, count in zip(labels, counts, strict=True)]
    ours_criterion = MaskFormerCriterion(classes).to(device)
    if transformers:
        matcher = transformers.MaskFormerHungarianMatcher(cost_class=1.0, cost_mask=20.0, cost_dice=1.0)
        theirs = transformers.MaskFormerLoss(classes, matcher, _WEIGHTS, 0.1).to(device)
    inputs = (class_logits, embed, features)

    def gradients(total: torch.Tensor) -> dict[str, torch.Tensor]:
        found = torch.autograd.grad(total, inputs)
        return {"total": total.detach(), **dict(zip(("classes", "embed", "features"), found, strict=True))}

    def ours():
        return gradients(ours_criterion(MaskFormerOutput(*inputs), targets)[0])

    def peer():
        total: Any = 0.0
        with peers_autocast(embed):
            their_classes, their_embed, their_features = peers_inputs(*inputs)
            dense = torch.einsum("lbqc,bchw->lbqhw", their_embed, their_features)
            for layer in range(layers):
                losses = theirs(dense[layer], their_classes[layer], masks, their_labels)
                total = total + sum(_WEIGHTS[name] * loss for name, loss in losses.items())
        return gradients(total)

    def error(result, reference):
        """Compare totals, and in float32 gradients too. In half precision the peer may match other queries."""
        names = ("total", "classes", "embed", "features") if dtype == "float32" else ("total",)
        return relative_error([result[name] for name in names], [reference[name] for name in names])

    crowd = "" if largest is None else f" on average and {max(counts)} at most"
    precision = "" if dtype == "float32" else f", {dtype}"
    return Case(
        op="criterion",
        title=f"L {layers}, B {images}, Q {queries}, K {classes}, T {segments}{crowd}, C {channels}, "
        f"{size}x{size} -> {4 * size}x{4 * size}, forward + backward to the embeddings{precision}",
        ours=ours,
        peers={"einsum + transformers' MaskFormerLoss": peer} if transformers else {},
        no_peer="transformers is not installed",
        tolerance=1e-4 if dtype == "float32" else 2e-2,
        error=error,
        inputs={"class_logits": class_logits, "mask_embed": embed, "mask_features": features},
        kernels=("matched_mask_loss", "matching_cost", "linear_sum_assignment"),
        notes=("the peer is given float32 masks, the only form that it takes",),
    )


@pytest.mark.timeout(900)
def test_criterion(compare):
    """Mask dot-product, matching and losses of all layers."""
    compare(seconds=30.0)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_criterion_on_a_gpu(compare_on_gpu, parameters):
    """A batch of 16 images, and one whose images are crowded, as with nuclei."""
    compare_on_gpu(**parameters)
