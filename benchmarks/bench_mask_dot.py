"""mask_dot against einsum and the activation after it."""

from __future__ import annotations

import pytest
import torch

from benchmarks.case import Case, case_name, relative_error
from maskformer_ext.ops import mask_dot

SMALL = {"layers": 1, "images": 1, "queries": 4, "channels": 8, "size": 16}
ON_GPU = [
    *({"images": 16, "activation": activation, "dtype": "bfloat16"} for activation in ("none", "sigmoid", "binary")),
    *({"layers": 6, "images": 16, "dtype": dtype} for dtype in ("float32", "bfloat16")),
]


def _error(result: torch.Tensor, reference: torch.Tensor) -> float:
    if result.dtype == torch.bool:  # a logit within rounding of 0 may fall either way
        return float((result != reference).float().mean())
    return relative_error(result, reference)


def build(
    *,
    device: str,
    activation: str = "none",
    dtype: str = "float32",
    layers: int = 1,
    images: int = 2,
    queries: int = 100,
    channels: int = 256,
    size: int = 128,
) -> Case:
    """Make embeddings of `layers` decoder layers and the features of `images`."""
    generator = torch.Generator().manual_seed(4)
    kind = getattr(torch, dtype)
    embed = torch.randn(layers, images, queries, channels, generator=generator).to(device, kind)
    features = (torch.randn(images, channels, size, size, generator=generator) / channels**0.5).to(device, kind)

    def peer():
        logits = torch.einsum("lbqc,bchw->lbqhw", embed, features)
        return {"none": lambda: logits, "sigmoid": logits.sigmoid, "binary": lambda: logits > 0}[activation]()

    precision = "" if dtype == "float32" else f", {dtype}"
    return Case(
        op="mask_dot",
        title=f"L {layers}, B {images}, Q {queries}, C {channels}, {size}x{size}, activation {activation}{precision}",
        ours=lambda: mask_dot(embed, features, activation=activation),
        peers={"einsum": peer},
        tolerance=1e-5 if dtype == "float32" else 2e-2,
        inputs={"mask_embed": embed, "mask_features": features},
        error=_error,
    )


@pytest.mark.parametrize("activation", ["none", "sigmoid", "binary"])
def test_mask_dot(compare, activation):
    """The last layer's masks of two images."""
    compare(activation=activation)


def test_mask_dot_of_all_layers(compare):
    """The logits of every decoder layer, which training with dense logits forms."""
    compare(layers=6)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_mask_dot_on_a_gpu(compare_on_gpu, parameters):
    """The last layer's masks of 16 images, and those of all layers."""
    compare_on_gpu(**parameters)
