"""The models with masks of transformers, as small as they come, beside those of `detection_models`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers_steps import CLASSES, swin_config

transformers = pytest.importorskip("transformers")

QUERIES = 9


def make_maskformer(**options: Any) -> Any:
    """Return a small random MaskFormer in training mode."""
    decoder = transformers.DetrConfig(
        d_model=32,
        encoder_layers=1,
        decoder_layers=3,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        dropout=0.0,
        num_queries=QUERIES,
    )
    config = transformers.MaskFormerConfig(
        backbone_config=swin_config(),
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=16,
        output_hidden_states=True,
        num_labels=CLASSES,
        **options,
    )
    torch.manual_seed(1)
    model = transformers.MaskFormerForInstanceSegmentation(config).train()
    # transformers draws them so small that all queries are alike and rounding decides the assignment
    torch.nn.init.normal_(model.model.transformer_module.queries_embedder.weight)
    return model


def _spread(model: Any) -> Any:
    """Change all weights: as some versions draw them, mask logits are so small that rounding decides their signs."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def make_mask2former(*, queries: int = QUERIES, layers: int = 6, **options: Any) -> Any:
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
    return _spread(transformers.Mask2FormerForUniversalSegmentation(config).train())


def make_oneformer(*, queries: int = QUERIES, layers: int = 6, is_training: bool = True, **options: Any) -> Any:
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
        decoder_layers=layers,
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
    return _spread(transformers.OneFormerForUniversalSegmentation(config).train())
