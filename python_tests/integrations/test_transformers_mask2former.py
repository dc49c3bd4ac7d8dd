"""`accelerate` beside the real Mask2Former of transformers: losses, gradients, random numbers, decoder, outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers_steps import CLASSES, SIZE, assert_same_step, make_labels, run_step, swin_config

from maskformer_ext.integrations.transformers import accelerate
from maskformer_ext.ops import SegmentTargets

transformers = pytest.importorskip("transformers")

QUERIES = 9


def make_model(*, queries: int = QUERIES, layers: int = 6, **options: Any):
    """Return a small random Mask2Former in training mode."""
    config = transformers.Mask2FormerConfig(
        backbone_config=swin_config(),
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
