"""`accelerate` beside the real Mask2Former of transformers: losses, gradients, random numbers, decoder, outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from maskformer_ext.integrations.transformers import accelerate
from maskformer_ext.ops import SegmentTargets

transformers = pytest.importorskip("transformers")

CLASSES, QUERIES, SIZE = 5, 9, (64, 96)


def make_model(*, queries: int = QUERIES, layers: int = 6, **options: Any):
    """Return a small random Mask2Former in training mode."""
    backbone = transformers.SwinConfig(
        image_size=64, embed_dim=12, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=4, drop_path_rate=0.0
    )
    backbone.out_features = ["stage1", "stage2", "stage3", "stage4"]
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=layers,
        num_attention_heads=2,
        dim_feedforward=48,
        num_queries=queries,
        train_num_points=96,
        num_labels=CLASSES,
        **options,
    )
    torch.manual_seed(1)
    return transformers.Mask2FormerForUniversalSegmentation(config).train()


def make_labels(counts=(3, 0, 6), size=SIZE) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Segment maps with void, the same as masks, and class labels."""
    generator = torch.Generator().manual_seed(3)
    blocks = [torch.randint(-1, max(n, 1), (8, 12), generator=generator) for n in counts]
    blocks = [block if n else torch.full_like(block, -1) for block, n in zip(blocks, counts, strict=True)]
    maps = [torch.nn.functional.interpolate(b[None, None].float(), size)[0, 0].int() for b in blocks]
    masks = [(one == torch.arange(n).view(-1, 1, 1)).float() for one, n in zip(maps, counts, strict=True)]
    return maps, masks, [torch.randint(CLASSES, (n,), generator=generator) for n in counts]


def run_step(model, mask_labels, class_labels, pixels: Tensor, **arguments: Any):
    """Return losses, gradients, output and the random state after one training step from seed 7."""
    losses: dict[str, Tensor] = {}
    hook = model.criterion.register_forward_hook(
        lambda _module, _arguments, result: losses.update({k: v.detach().clone() for k, v in result.items()})
    )
    model.zero_grad()
    torch.manual_seed(7)
    output = model(pixels, mask_labels=mask_labels, class_labels=class_labels, **arguments)
    state = torch.get_rng_state()
    output.loss.backward()
    hook.remove()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {**losses, "total": output.loss.detach()}, gradients, output, state


def assert_same_step(ours, theirs, tolerance: float = 1e-6) -> None:
    """Compare two results of `run_step`."""
    assert list(ours[0]) == list(theirs[0])
    for key, loss in theirs[0].items():
        assert ours[0][key].shape == loss.shape, key
        bound = tolerance * max(1.0, loss.abs().max().item())
        torch.testing.assert_close(ours[0][key], loss, rtol=0, atol=bound, msg=lambda text, key=key: f"{key}: {text}")
    largest = max(gradient.abs().max() for gradient in theirs[1].values())
    for name, gradient in theirs[1].items():
        assert (ours[1].get(name, torch.zeros(())) - gradient).abs().max() <= 10 * tolerance * largest, name
    assert torch.equal(ours[3], theirs[3])


@pytest.mark.parametrize("form", ["masks", "boolean masks", "segment maps", "targets", "overlapping masks"])
def test_training_step_equals_transformers(form: str) -> None:
    model = make_model(no_object_weight=0.3, class_weight=1.5, mask_weight=4.0)
    pixels = torch.randn(3, 3, *SIZE)
    maps, masks, labels = make_labels()
    if form == "overlapping masks":
        masks[2][1, :40] = 1
    theirs = run_step(model, masks, labels, pixels)
    accelerate(model)
    given = {
        "boolean masks": [mask.bool() for mask in masks],
        "segment maps": maps,
        "targets": SegmentTargets.from_masks(masks, labels),
    }.get(form, masks)
    assert_same_step(run_step(model, given, labels, pixels), theirs)
