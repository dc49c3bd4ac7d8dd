"""attention_mask against what transformers' mask predictor does after its embeddings."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from benchmarks.case import Case, case_name
from maskformer_ext.ops import attention_mask

SMALL = {"images": 1, "queries": 4, "channels": 8, "size": 16, "level": 4}
ON_GPU = [{"images": 16, "level": level, "dtype": "bfloat16"} for level in (16, 32, 64)]
HEADS = 8


def _error(result: torch.Tensor, reference: torch.Tensor) -> float:
    return float((result != reference).float().mean())  # a logit within rounding of 0 may fall either way


def build(
    *,
    device: str,
    level: int,
    dtype: str = "float32",
    images: int = 2,
    queries: int = 100,
    channels: int = 256,
    size: int = 128,
) -> Case:
    """Make embeddings of one layer and features, for a level of `level` x `level` pixels."""
    generator = torch.Generator().manual_seed(12)
    kind = getattr(torch, dtype)
    embed = torch.randn(images, queries, channels, generator=generator).to(device, kind)
    features = (torch.randn(images, channels, size, size, generator=generator) / channels**0.5).to(device, kind)

    def peer():
        logits = torch.einsum("bqc,bchw->bqhw", embed, features)
        small = F.interpolate(logits, size=(level, level), mode="bilinear", align_corners=False)
        # as transformers: a copy for every head, True where a query may not attend
        masked = small.sigmoid().flatten(2).unsqueeze(1).repeat(1, HEADS, 1, 1).flatten(0, 1) < 0.5
        masked = masked & ~masked.all(-1, keepdim=True)
        return ~masked.view(images, HEADS, queries, level, level)[:, 0]

    precision = "" if dtype == "float32" else f", {dtype}"
    return Case(
        op="attention_mask",
        title=f"B {images}, Q {queries}, C {channels}, {size}x{size} to {level}x{level}{precision}",
        ours=lambda: attention_mask(embed, features, (level, level)),
        peers={"composition": peer},
        tolerance=1e-4 if dtype == "float32" else 2e-2,
        inputs={"mask_embed": embed, "mask_features": features},
        error=_error,
    )


@pytest.mark.parametrize("level", [16, 32, 64])
def test_attention_mask(compare, level):
    """The three levels that the decoder attends to."""
    compare(level=level)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_attention_mask_on_a_gpu(compare_on_gpu, parameters):
    """The same for 16 images."""
    compare_on_gpu(**parameters)
