"""The smallest MaskFormer that still has every part, for tests of what surrounds the network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maskformer_ext.config import ModelConfig


def tiny_config(num_classes: int, **changes: Any) -> ModelConfig:
    """Return sizes of a network that runs in milliseconds.

    Args:
        num_classes: K.
        changes: other values of single fields.
    """
    config = ModelConfig(
        backbone="resnet18",
        num_classes=num_classes,
        num_queries=8,
        pixel_decoder_dim=64,
        mask_dim=32,
        hidden_dim=32,
        num_heads=2,
        feedforward_dim=32,
        decoder_layers=1,
    )
    return replace(config, **changes)
