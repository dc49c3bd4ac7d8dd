"""One training step of EoMT in transformers, with and without `accelerate`, on the same weights and data."""

from __future__ import annotations

import torch

from benchmarks.accelerated import labelled_images, step_case
from benchmarks.case import Case


def build_eomt(
    *, kind: str, device: str, dtype: str, images: int, segments: int, size: int, queries: int, classes: int
) -> Case:
    """Make EoMT with a ViT-S twice with the same weights, and a batch of images with segments that do not overlap.

    ``kind`` is "Eomt" or "EomtDinov3". Half precision is autocast's.
    """
    import transformers

    torch.manual_seed(3)
    sizes = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": size}
    if kind == "EomtDinov3":
        sizes["intermediate_size"] = 1536
    config = getattr(transformers, f"{kind}Config")(**sizes, num_queries=queries, num_labels=classes)
    model = getattr(transformers, f"{kind}ForUniversalSegmentation")(config).to(device).train()
    inputs = labelled_images(device, images, segments, size, classes)
    backbone = {"Eomt": "ViT-S", "EomtDinov3": "DINOv3 ViT-S"}[kind]
    title = f"EoMT, {backbone}, {size}x{size}, batch {images}, {segments} segments per image, "
    title += f"{config.num_blocks + 1} supervised layers"
    return step_case(title, model, inputs, dtype, ("every query is masked in every block, as before annealing",))
