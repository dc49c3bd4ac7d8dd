"""One training step of EoMT in transformers, with and without `accelerate`, on the same weights and data."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from benchmarks import scenes
from benchmarks.case import Case, relative_error

_GRADIENT_TOLERANCE = 1e-3


class _Step:
    """Run a model forward and backward from one seed, and return the unweighted losses of every layer."""

    def __init__(self, model: Any, inputs: dict[str, Any], dtype: torch.dtype) -> None:
        self.model, self.inputs, self.dtype = model, inputs, dtype
        self.losses: dict[str, Tensor] = {}
        model.criterion.register_forward_hook(self._note)

    def _note(self, _module, _arguments, losses: dict[str, Tensor]) -> None:
        layer = len(self.losses) // 3
        self.losses |= {f"{name}_{layer}": value.detach().clone() for name, value in losses.items()}

    def __call__(self) -> dict[str, Tensor]:
        self.model.zero_grad(set_to_none=True)
        self.losses = {}
        torch.manual_seed(7)
        device = self.inputs["pixel_values"].device
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            loss = self.model(**self.inputs).loss
        loss.backward()
        return self.losses

    def gradient_norm(self) -> float:
        """Return the norm of all gradients."""
        return math.sqrt(sum(float(p.grad.square().sum()) for p in self.model.parameters() if p.grad is not None))


def build_eomt(
    *, kind: str, device: str, dtype: str, images: int, segments: int, size: int, queries: int, classes: int
) -> Case:
    """Make EoMT with a ViT-S twice with the same weights, and a batch of images with segments that do not overlap.

    ``kind`` is "Eomt" or "EomtDinov3". Half precision is autocast's.
    """
    import transformers

    from maskformer_ext.integrations.transformers import accelerate

    torch.manual_seed(3)
    sizes = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": size}
    if kind == "EomtDinov3":
        sizes["intermediate_size"] = 1536
    config = getattr(transformers, f"{kind}Config")(**sizes, num_queries=queries, num_labels=classes)
    theirs = getattr(transformers, f"{kind}ForUniversalSegmentation")(config).to(device).train()
    ours = accelerate(copy.deepcopy(theirs), verbose=False)
    segment_map = scenes.segment_maps(images, segments, size)
    inputs: dict[str, Any] = {
        "pixel_values": torch.randn(images, 3, size, size, device=device),
        "mask_labels": [scenes.masks_of(owners, segments).float().to(device) for owners in segment_map],
        "class_labels": list(torch.randint(classes, (images, segments), device=device)),
    }
    kind_of_number = getattr(torch, dtype)
    own, peer = _Step(ours, inputs, kind_of_number), _Step(theirs, inputs, kind_of_number)

    def error(result: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
        norm, expected = own.gradient_norm(), peer.gradient_norm()
        if dtype == "float32" and abs(norm / expected - 1) > _GRADIENT_TOLERANCE:
            raise AssertionError(f"train_step: the gradient's norm must be {expected:.6g}, got {norm:.6g}")
        return max(relative_error(result[name], value) for name, value in reference.items())

    def forget() -> None:
        for step in (own, peer):
            step.model.zero_grad(set_to_none=True)

    backbone = {"Eomt": "ViT-S", "EomtDinov3": "DINOv3 ViT-S"}[kind]
    return Case(
        op="train_step",
        title=f"EoMT, {backbone}, {size}x{size}, batch {images}, {segments} segments per image, "
        f"{config.num_blocks + 1} supervised layers, transformers' network after accelerate()"
        + ("" if dtype == "float32" else f", {dtype}"),
        ours=own,
        peers={"transformers": peer},
        # In half precision rounding decides some of the assignments.
        tolerance=1e-4 if dtype == "float32" else 1e-1,
        inputs={"images": inputs["pixel_values"], "segment_map": segment_map},
        error=error,
        forget=forget,
        kernels=("point_matching_cost", "linear_sum_assignment", "uncertain_points", "point_mask_loss", "pair_dot"),
        notes=(
            "forward and backward, gradients included, without the optimiser's step, which is the same for both",
            "every query is masked in every block, as before annealing",
        ),
    )
