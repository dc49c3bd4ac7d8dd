"""Layers of transformers' models with deformable attention, before and after ``accelerate``, on the same weights."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.case import Case, case_name, optional, relative_error

SMALL = {"images": 1, "stride": 8}
ON_GPU = [{"images": 16, "model": model} for model in ("mask2former", "rt_detr", "d_fine")]
_GRADIENT_TOLERANCE = 2e-2
_LAYERS = {
    "mask2former": ("Mask2FormerConfig", "Mask2FormerPixelDecoderEncoderLayer", "pixel decoder layer, 512x512", 512),
    "rt_detr": ("RTDetrConfig", "RTDetrDecoderLayer", "decoder layer, 300 queries, 640x640", 640),
    "d_fine": ("DFineConfig", "DFineDecoderLayer", "decoder layer, 300 queries, 640x640", 640),
}


def build(*, device: str, model: str = "mask2former", images: int = 2, stride: int = 1, backward: bool = True) -> Case:
    """Make a layer and its twin, which is accelerated; `stride` makes the maps smaller."""
    if optional("transformers") is None:
        return _without_transformers(device)
    from maskformer_ext.integrations.transformers import accelerate

    config_name, layer_name, what, size = _LAYERS[model]
    code = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
    config = getattr(importlib.import_module("transformers"), config_name)(dropout=0.0)
    config._attn_implementation = "sdpa"  # as in a whole model
    torch.manual_seed(2)
    theirs: nn.Module = getattr(code, layer_name)(config)
    for name, parameter in theirs.named_parameters():
        if name.endswith("sampling_offsets.bias"):  # points lie about two cells around
            nn.init.normal_(parameter, std=2.0)
    theirs.to(device).train()
    ours = accelerate(copy.deepcopy(theirs), verbose=False)
    given = _inputs(model, images, size // stride, device)
    grad = torch.randn(given["hidden_states"].shape).to(device)
    tensors = [tensor for tensor in given.values() if isinstance(tensor, Tensor) and tensor.requires_grad]

    def run(layer: nn.Module) -> tuple[Tensor, ...]:
        with torch.set_grad_enabled(backward):
            result = layer(**given)
            out = result[0] if isinstance(result, tuple) else result
        if not backward:
            return (out,)
        wanted = [*tensors, *layer.parameters()]
        return out.detach(), *torch.autograd.grad(out, wanted, grad)

    return Case(
        op="deformable_models",
        title=f"{model}: {what}, batch {images}, forward{' + backward' if backward else ''}",
        ours=lambda: run(ours),
        peers={"transformers": lambda: run(theirs)},
        tolerance=1e-5,
        error=_error,
        inputs={"hidden_states": given["hidden_states"]},
        kernels=("ms_deform_attn",),
        notes=("dropout 0; the same weights in both",),
    )


def _error(result: tuple[Tensor, ...], reference: tuple[Tensor, ...]) -> float:
    """Compare the outputs. Compare the gradients by their norms: rounding moves single points to another cell."""
    if len(reference) == 1:
        return relative_error(result, reference)
    difference = torch.stack([(ours - theirs).norm() for ours, theirs in zip(result[1:], reference[1:], strict=True)])
    norms = torch.stack([theirs.norm() for theirs in reference[1:]])
    if float((difference / norms.clamp_min(1e-3 * norms.max())).max()) > _GRADIENT_TOLERANCE:
        raise AssertionError("deformable_models: a gradient differs from that of transformers")
    return relative_error(result[0], reference[0])


def _inputs(model: str, images: int, size: int, device: str) -> dict[str, Any]:
    """Draw the arguments of a layer's forward."""
    generator = torch.Generator().manual_seed(0)
    coarse_first = model == "mask2former"
    sides = [max(size // step, 1) for step in ((32, 16, 8) if coarse_first else (8, 16, 32))]
    cells = sum(side * side for side in sides)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device).requires_grad_()

    shapes = [(side, side) for side in sides]
    if model == "mask2former":
        centres = [torch.cartesian_prod(*[(torch.arange(side) + 0.5) / side] * 2).flip(-1) for side in sides]
        return {
            "hidden_states": draw(images, cells, 256),
            "attention_mask": torch.zeros(images, cells, dtype=torch.bool, device=device),
            "position_embeddings": draw(images, cells, 256),
            "reference_points": torch.cat(centres)[None, :, None].expand(images, -1, 3, -1).to(device),
            "spatial_shapes_list": shapes,
        }
    names = ("object_queries_position_embeddings", "position_embeddings")
    boxes = torch.rand(images, 300, 1, 4, generator=generator).to(device)
    return {
        "hidden_states": draw(images, 300, 256),
        names[model == "d_fine"]: draw(images, 300, 256),
        "encoder_hidden_states": draw(images, cells, 256),
        "reference_points": boxes,
        "spatial_shapes": torch.tensor(shapes, device=device),
        "spatial_shapes_list": shapes,
    }


def _without_transformers(device: str) -> Case:
    return Case(
        op="deformable_models",
        title="nothing to accelerate",
        ours=lambda: torch.zeros(1, device=device),
        peers={},
        tolerance=0.0,
        inputs={},
        no_peer="transformers is not installed",
    )


@pytest.mark.parametrize("model", _LAYERS)
@pytest.mark.parametrize("backward", [True, False], ids=["forward_backward", "forward"])
def test_deformable_models(compare, model, backward):
    """One layer of each kind: the sampling module inside of a larger one, shared, and with points that differ."""
    compare(model=model, backward=backward)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_deformable_models_on_a_gpu(compare_on_gpu, parameters):
    """The same for 16 images."""
    compare_on_gpu(**parameters)
