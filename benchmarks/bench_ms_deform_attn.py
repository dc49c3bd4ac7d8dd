"""ms_deform_attn against transformers' function of grid_sample, and on a GPU against mmcv's kernel where installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.case import Case, case_name, optional, peers_inputs
from maskformer_ext.ops import ms_deform_attn

SMALL = {"shapes": ((4, 4), (8, 8)), "images": 1, "heads": 2, "channels": 8}
ON_GPU = [{"images": 16, "dtype": dtype} for dtype in ("float32", "bfloat16")]


def build(
    *,
    device: str,
    dtype: str = "float32",
    images: int = 2,
    heads: int = 8,
    channels: int = 32,
    points: int = 4,
    shapes: tuple[tuple[int, int], ...] = ((16, 16), (32, 32), (64, 64)),
    backward: bool = True,
) -> Case:
    """Make a layer of Mask2Former's pixel decoder: every cell is a query, and its points lie about two cells around."""
    generator = torch.Generator().manual_seed(0)
    queries, levels = sum(h * w for h, w in shapes), len(shapes)
    sizes = torch.tensor([(w, h) for h, w in shapes])

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    offsets = 2 * draw(images, queries, heads, levels, points, 2) / sizes[:, None]
    locations = (_centres(shapes)[None, :, None, None, None] + offsets).to(device).requires_grad_(backward)
    weights = draw(images, queries, heads, levels * points).softmax(-1).view(images, queries, heads, levels, points)
    weights = weights.to(device).requires_grad_(backward)
    kind = getattr(torch, dtype)
    value = draw(images, queries, heads, channels).to(device, kind).requires_grad_(backward)
    grad = draw(images, queries, heads * channels).to(device, kind)
    inputs = (value, locations, weights)

    def finish(out: Tensor) -> tuple[Tensor, ...]:
        return (out.detach(), *torch.autograd.grad(out, inputs, grad.to(out.dtype))) if backward else (out,)

    def ours() -> tuple[Tensor, ...]:
        return finish(ms_deform_attn(value, shapes, locations, weights))

    def theirs(peer: Any) -> Any:
        return finish(peer(*inputs))

    passes = "forward + backward" if backward else "forward"
    precision = "" if dtype == "float32" else f", {dtype} values"
    return Case(
        op="ms_deform_attn",
        title=f"B {images}, Q {queries}, H {heads}, D {channels}, L {levels}, P {points}, {passes}{precision}",
        ours=ours,
        peers={name: partial(theirs, peer) for name, peer in _peers(shapes, device).items()},
        no_peer="transformers is not installed",
        tolerance=2e-5 if dtype == "float32" else 2e-2,
        inputs={"value": value, "sampling_locations": locations, "attention_weights": weights},
        notes=("Values of half precision become float32 for transformers on a CPU.",) if dtype != "float32" else (),
    )


def _centres(shapes: tuple[tuple[int, int], ...]) -> Tensor:
    """Return the centres (Q, 2) of all cells of all levels, x and y in [0, 1]."""
    levels = []
    for h, w in shapes:
        y, x = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
        levels.append(torch.stack((x, y), -1).reshape(-1, 2))
    return torch.cat(levels)


def _peers(shapes: tuple[tuple[int, int], ...], device: str) -> dict[str, Callable[..., Tensor]]:
    """Return the functions of others, of value, locations and weights."""
    peers: dict[str, Callable[..., Tensor]] = {}
    transformers = optional("transformers.models.mask2former.modeling_mask2former")
    if transformers:

        def of_transformers(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
            (value,) = peers_inputs(value)
            same = value.dtype
            return transformers.multi_scale_deformable_attention(
                value, list(shapes), locations.to(same), weights.to(same)
            )

        peers["transformers"] = of_transformers
    mmcv = optional("mmcv.ops.multi_scale_deform_attn")
    if mmcv and device == "cuda":
        sizes = torch.tensor(shapes, device=device)
        starts = torch.cat((sizes.new_zeros(1), sizes.prod(1).cumsum(0)[:-1]))

        def of_mmcv(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
            return mmcv.MultiScaleDeformableAttnFunction.apply(value.float(), sizes, starts, locations, weights, 64)

        peers["mmcv"] = of_mmcv
    return peers


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("backward", [True, False], ids=["forward_backward", "forward"])
def test_ms_deform_attn(compare, backward, dtype):
    """A layer of Mask2Former's pixel decoder at 512x512."""
    compare(backward=backward, dtype=dtype)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_ms_deform_attn_on_a_gpu(compare_on_gpu, parameters):
    """The same for 16 images."""
    compare_on_gpu(**parameters)
