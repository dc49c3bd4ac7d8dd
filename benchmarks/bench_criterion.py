"""From embeddings to the total loss and back, against einsum and transformers' MaskFormerLoss for every layer."""

from __future__ import annotations

import pytest
import torch
from transformers.models.maskformer.modeling_maskformer import MaskFormerHungarianMatcher, MaskFormerLoss

from benchmarks import scenes
from benchmarks.case import Case
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.outputs import MaskFormerOutput
from maskformer_ext.ops import SegmentTargets

SMALL = {"layers": 2, "images": 1, "queries": 4, "classes": 5, "segments": 3, "channels": 8, "size": 16}
_WEIGHTS = {"loss_cross_entropy": 1.0, "loss_mask": 20.0, "loss_dice": 1.0}


def build(
    *,
    device: str,
    layers: int = 6,
    images: int = 2,
    queries: int = 100,
    classes: int = 150,
    segments: int = 20,
    channels: int = 256,
    size: int = 128,
) -> Case:
    """Make the outputs of `layers` decoder layers; targets measure four times the mask features."""
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device).requires_grad_()

    class_logits, embed = draw(layers, images, queries, classes + 1), draw(layers, images, queries, channels)
    features = (draw(images, channels, size, size) / channels**0.5).detach().requires_grad_()
    segment_map = scenes.segment_maps(images, segments, 4 * size)
    labels = torch.randint(classes, (images, segments), generator=generator)
    targets = SegmentTargets(segment_map, labels, torch.full((images,), segments)).with_pairs().to(device)
    masks = [scenes.masks_of(owners, segments).float().to(device) for owners in segment_map]
    ours_criterion = MaskFormerCriterion(classes).to(device)
    matcher = MaskFormerHungarianMatcher(cost_class=1.0, cost_mask=20.0, cost_dice=1.0)
    theirs = MaskFormerLoss(classes, matcher, _WEIGHTS, 0.1).to(device)
    inputs = (class_logits, embed, features)

    def gradients(total: torch.Tensor) -> dict[str, torch.Tensor]:
        found = torch.autograd.grad(total, inputs)
        return {"total": total.detach(), **dict(zip(("classes", "embed", "features"), found, strict=True))}

    def ours():
        return gradients(ours_criterion(MaskFormerOutput(*inputs), targets)[0])

    def peer():
        dense = torch.einsum("lbqc,bchw->lbqhw", embed, features)
        total = 0.0
        for layer in range(layers):
            losses = theirs(dense[layer], class_logits[layer], masks, list(labels.to(device)))
            total = total + sum(_WEIGHTS[name] * loss for name, loss in losses.items())
        return gradients(total)

    return Case(
        op="criterion",
        title=f"L {layers}, B {images}, Q {queries}, K {classes}, T {segments}, C {channels}, "
        f"{size}x{size} -> {4 * size}x{4 * size}, forward + backward to the embeddings",
        ours=ours,
        peers={"einsum + transformers' MaskFormerLoss": peer},
        tolerance=1e-4,
        inputs={"class_logits": class_logits, "mask_embed": embed, "mask_features": features},
        kernels=("matched_mask_loss", "matching_cost", "linear_sum_assignment"),
        notes=("the peer is given float32 masks, the only form that it takes",),
    )


@pytest.mark.timeout(900)
def test_criterion(compare):
    """Mask dot-product, matching and losses of all layers."""
    compare(seconds=30.0)
