"""`accelerate` beside the real OneFormer of transformers: losses, gradients, random numbers, decoder, outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers_steps import CLASSES, SIZE, assert_same_step, make_labels, run_step, swin_config

from maskformer_ext.integrations.transformers import accelerate
from maskformer_ext.ops import SegmentTargets

transformers = pytest.importorskip("transformers")

QUERIES = 9


def make_model(*, queries: int = QUERIES, is_training: bool = True, **options: Any):
    """Return a small random OneFormer in training mode, without dropout."""
    config = transformers.OneFormerConfig(
        backbone_config=swin_config(),
        num_queries=queries,
        conv_dim=64,
        mask_dim=64,
        hidden_dim=64,
        encoder_feedforward_dim=32,
        dim_feedforward=48,
        encoder_layers=1,
        decoder_layers=6,
        num_attention_heads=2,
        train_num_points=96,
        task_seq_len=7,
        text_encoder_width=64,
        text_encoder_context_length=7,
        text_encoder_num_layers=1,
        text_encoder_vocab_size=50,
        text_encoder_n_ctx=2,
        is_training=is_training,
        num_labels=CLASSES,
        **{"dropout": 0.0} | options,
    )
    torch.manual_seed(1)
    return transformers.OneFormerForUniversalSegmentation(config).train()


def make_inputs(queries: int = QUERIES) -> dict[str, Any]:
    """Return images, tasks and texts."""
    generator = torch.Generator().manual_seed(5)
    return {
        "pixels": torch.randn(3, 3, *SIZE, generator=generator),
        "task_inputs": torch.randint(50, (3, 7), generator=generator).float(),
        "text_inputs": torch.randint(50, (3, queries - 2, 7), generator=generator),
    }


@pytest.mark.parametrize("form", ["masks", "segment maps", "targets", "overlapping masks"])
def test_training_step_equals_transformers(form: str) -> None:
    model, inputs = make_model(no_object_weight=0.3, class_weight=1.5, contrastive_weight=0.7), make_inputs()
    maps, masks, labels = make_labels()
    if form == "overlapping masks":
        masks[2][1, :40] = 1
    theirs = run_step(model, masks, labels, **inputs)
    accelerate(model)
    given = {"segment maps": maps, "targets": SegmentTargets.from_masks(masks, labels)}.get(form, masks)
    assert_same_step(run_step(model, given, labels, **inputs), theirs)
