"""One training step of transformers' Mask2Former or OneFormer, with and without `accelerate`."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.accelerated import labelled_images, step_case
from benchmarks.case import Case

_BACKBONE_NAMES = {"swin_tiny": "Swin-T", "resnet50": "R50"}


def mask2former_config(queries: int, classes: int, backbone: str = "swin_tiny") -> Any:
    """Configure Mask2Former with Swin-T or R50; what is not named here is transformers' default."""
    import transformers

    return transformers.Mask2FormerConfig(
        backbone_config=backbone_config(backbone),
        num_queries=queries,
        num_labels=classes,  # type: ignore[call-arg]
    )


def backbone_config(backbone: str) -> Any:
    """Configure Swin-T without drop path, or R50."""
    from transformers import ResNetConfig, SwinConfig

    stages: dict[str, Any] = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    if backbone == "resnet50":
        return ResNetConfig(**stages)
    sizes: dict[str, Any] = {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7}
    return SwinConfig(**sizes, drop_path_rate=0.0, **stages)


def build_mask2former(
    *,
    kind: str,
    device: str,
    backbone: str,
    dtype: str,
    images: int,
    segments: int,
    size: int,
    queries: int,
    classes: int,
) -> Case:
    """Make the model twice with the same weights, and a batch of images with segments that do not overlap.

    ``kind`` is "Mask2Former" or "OneFormer". Half precision is autocast's.
    """
    import transformers

    torch.manual_seed(3)
    inputs = labelled_images(device, images, segments, size, classes)
    config: Any
    if kind == "Mask2Former":
        config = mask2former_config(queries, classes, backbone)
        model: Any = transformers.Mask2FormerForUniversalSegmentation(config)
    else:
        config = transformers.OneFormerConfig(
            backbone_config=backbone_config(backbone),
            num_queries=queries,
            num_labels=classes,  # type: ignore[call-arg]
            dropout=0.0,
            is_training=True,
        )
        model = transformers.OneFormerForUniversalSegmentation(config)
        words = config.text_encoder_vocab_size
        inputs["task_inputs"] = torch.randint(words, (images, config.task_seq_len), device=device).float()
        texts = images, queries - config.text_encoder_n_ctx, config.text_encoder_context_length
        inputs["text_inputs"] = torch.randint(words, texts, device=device)
    title = f"{kind}, {_BACKBONE_NAMES[backbone]}, {size}x{size}, batch {images}, {segments} segments per image, "
    title += f"{config.decoder_layers} supervised layers"
    # The queries of a new OneFormer differ by 0.3%. Rounding decides which of two is matched.
    tolerance = 1e-4 if kind == "Mask2Former" else 5e-3
    return step_case(title, model.to(device).train(), inputs, dtype, ("without dropout and drop path",), tolerance)
