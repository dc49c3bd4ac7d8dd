"""The masked-attention decoder of transformers' Mask2Former, forward and backward, with and without `accelerate`."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.case import Case, case_name
from benchmarks.mask2former_step import mask2former_config
from maskformer_ext.ops import pair_dot

SMALL = {"images": 1, "segments": 3, "size": 64}
ON_GPU = [{"images": 16, "dtype": dtype} for dtype in ("float32", "bfloat16")]


class _Decoder:
    """Decode, take a loss of every prediction's first masks and of all states, and return what it leaves."""

    def __init__(self, module: Any, features: list[Tensor], segments: int, dtype: torch.dtype, ours: bool) -> None:
        self.module, self.features, self.segments, self.dtype, self.ours = module, features, segments, dtype, ours

    def __call__(self) -> list[Tensor]:
        self.forget()
        device = self.features[0].device.type
        with torch.autocast(device, self.dtype, enabled=self.dtype != torch.float32):
            output = self.module(multi_scale_features=self.features[1:], mask_features=self.features[0])
            states = torch.stack(output.intermediate_hidden_states).float()
            loss = states.square().mean() + self._mask_logits(output.masks_queries_logits).float().square().mean()
        loss.backward()
        return [states.detach(), *(feature.grad for feature in self.features if feature.grad is not None)]

    def _mask_logits(self, masks: Any) -> Tensor:
        """Return the mask logits of the first queries of each image, of all predictions, as a loss takes them."""
        if not self.ours:
            return torch.stack([logits[:, : self.segments].flatten(0, 1) for logits in masks], 1)
        embed = torch.stack(masks.mask_embed)[:, :, : self.segments].permute(1, 2, 0, 3)
        image = torch.arange(len(embed), device=embed.device).repeat_interleave(self.segments)
        masks[-1]  # an output of the model, formed in any case
        return pair_dot(embed.flatten(0, 1), masks.mask_features, image, self.segments)

    def forget(self) -> None:
        """Free all gradients."""
        self.module.zero_grad(set_to_none=True)
        for feature in self.features:
            feature.grad = None


def build(
    *,
    device: str,
    dtype: str = "float32",
    images: int = 2,
    segments: int = 20,
    size: int = 512,
    queries: int = 100,
) -> Case:
    """Make the decoder twice with the same weights, and features of an image of `size`."""
    import transformers

    from maskformer_ext.integrations.transformers import accelerate

    torch.manual_seed(3)
    model: Any = transformers.Mask2FormerForUniversalSegmentation(mask2former_config(queries, 150))
    model.to(device).train()
    ours = accelerate(copy.deepcopy(model), verbose=False)
    features = [
        torch.randn(images, 256, size // stride, size // stride, device=device, requires_grad=True)
        for stride in (4, 32, 16, 8)
    ]
    kind = getattr(torch, dtype)
    calls = [_Decoder(one.model.transformer_module, features, segments, kind, one is ours) for one in (ours, model)]

    def forget() -> None:
        for call in calls:
            call.forget()

    return Case(
        op="masked_attention_decoder",
        title=f"9 layers, Q {queries}, {size}x{size}, batch {images}, {segments} segments per image"
        + ("" if dtype == "float32" else f", {dtype}"),
        ours=calls[0],
        peers={"transformers": calls[1]},
        tolerance=1e-3 if dtype == "float32" else 2e-1,
        inputs={"mask_features": features[0]},
        forget=forget,
        kernels=("attention_mask", "pair_dot"),
        notes=(
            "forward and backward, with the mask logits of 10 predictions that a loss of all segments reads",
            "the last layer's mask logits are formed for all queries in both, since the model returns them",
        ),
    )


def test_masked_attention_decoder(compare):
    """The decoder as in training, with the gradients of its parameters and features."""
    compare()


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_masked_attention_decoder_on_a_gpu(compare_on_gpu, parameters):
    """A batch of 16 images."""
    compare_on_gpu(**parameters)
