"""pair_dot against one batched product of the pairs with their images' features, gathered for each pair."""

from __future__ import annotations

import pytest
import torch

from benchmarks.case import Case, case_name
from maskformer_ext.ops import pair_dot

SMALL = {"layers": 2, "images": 2, "segments": 3, "channels": 8, "size": 8}
ON_GPU = [{"images": 16, "layers": 6, "dtype": dtype} for dtype in ("float32", "bfloat16")]


def build(
    *,
    device: str,
    dtype: str = "float32",
    layers: int = 6,
    images: int = 2,
    segments: int = 20,
    channels: int = 256,
    size: int = 128,
    backward: bool = True,
) -> Case:
    """Make embeddings of `segments` pairs per image in `layers` decoder layers, and the features of `images`."""
    generator = torch.Generator().manual_seed(4)
    kind = getattr(torch, dtype)
    pairs = images * segments

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, kind)

    embed = draw(pairs, layers, channels).requires_grad_(backward)
    features = (draw(images, channels, size, size) / channels**0.5).requires_grad_(backward)
    grad = draw(pairs, layers, size, size)
    image_index = torch.arange(images, device=device).repeat_interleave(segments)

    def finish(logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if not backward:
            return (logits,)
        return logits.detach(), *torch.autograd.grad(logits, (embed, features), grad)

    def ours() -> tuple[torch.Tensor, ...]:
        return finish(pair_dot(embed, features, image_index, segments))

    def peer() -> tuple[torch.Tensor, ...]:
        return finish(torch.einsum("plc,pchw->plhw", embed, features[image_index]))

    passes = "forward + backward" if backward else "forward"
    precision = "" if dtype == "float32" else f", {dtype}"
    return Case(
        op="pair_dot",
        title=f"L {layers}, B {images}, T {segments}, C {channels}, {size}x{size}, {passes}{precision}",
        ours=ours,
        peers={"einsum of gathered features": peer},
        tolerance=1e-5 if dtype == "float32" else 5e-2,
        inputs={"pair_embed": embed, "mask_features": features},
    )


@pytest.mark.parametrize("backward", [True, False], ids=["forward_backward", "forward"])
def test_pair_dot(compare, backward):
    """The matched queries of all decoder layers of two images."""
    compare(backward=backward)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_pair_dot_on_a_gpu(compare_on_gpu, parameters):
    """The same for 16 images."""
    compare_on_gpu(**parameters)
