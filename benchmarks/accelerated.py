"""One training step of a model of transformers, with and without `accelerate`, on the same weights and data."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from benchmarks import scenes
from benchmarks.case import Case, relative_error

_GRADIENT_TOLERANCE = 1e-3


class AcceleratedStep:
    """Run a model forward and backward from one seed, and return its unweighted losses."""

    def __init__(self, model: Any, inputs: dict[str, Any], dtype: torch.dtype) -> None:
        self.model, self.inputs, self.dtype = model, inputs, dtype
        self.losses: dict[str, Tensor] = {}
        self.calls = 0
        model.criterion.register_forward_hook(self._note)

    def _note(self, _module, _arguments, losses: dict[str, Tensor]) -> None:
        # They are weighted in place afterwards, hence the copies. EoMT calls its criterion once per layer.
        suffix = f"_{self.calls}" if self.calls else ""
        self.losses |= {name + suffix: value.detach().clone() for name, value in losses.items()}
        self.calls += 1

    def __call__(self) -> dict[str, Tensor]:
        self.model.zero_grad(set_to_none=True)
        self.losses, self.calls = {}, 0
        torch.manual_seed(7)
        device = self.inputs["pixel_values"].device
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            loss = self.model(**self.inputs).loss
        loss.sum().backward()  # OneFormer's has one element in one dimension
        return self.losses

    def gradient_norm(self) -> float:
        """Return the norm of all gradients."""
        return math.sqrt(sum(float(p.grad.square().sum()) for p in self.model.parameters() if p.grad is not None))


def labelled_images(device: str, images: int, segments: int, size: int, classes: int) -> dict[str, Any]:
    """Make images with segments that do not overlap, as masks, under the names of transformers."""
    segment_map = scenes.segment_maps(images, segments, size)
    return {
        "pixel_values": torch.randn(images, 3, size, size, device=device),
        "mask_labels": [scenes.masks_of(owners, segments).float().to(device) for owners in segment_map],
        "class_labels": list(torch.randint(classes, (images, segments), device=device)),
    }


def step_case(
    title: str,
    theirs: Any,
    inputs: dict[str, Any],
    dtype: str,
    notes: tuple[str, ...] = (),
    tolerance: float = 1e-4,
) -> Case:
    """Compare a model in training mode with a copy of it after `accelerate`; `tolerance` is float32's."""
    from maskformer_ext.integrations.transformers import accelerate

    kind = getattr(torch, dtype)
    own = AcceleratedStep(accelerate(copy.deepcopy(theirs), verbose=False), inputs, kind)
    peer = AcceleratedStep(theirs, inputs, kind)

    def error(result: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
        norm, expected = own.gradient_norm(), peer.gradient_norm()
        if dtype == "float32" and abs(norm / expected - 1) > _GRADIENT_TOLERANCE:
            raise AssertionError(f"train_step: the gradient's norm must be {expected:.6g}, got {norm:.6g}")
        return max(relative_error(result[name], value) for name, value in reference.items())

    def forget() -> None:
        for step in (own, peer):
            step.model.zero_grad(set_to_none=True)

    return Case(
        op="train_step",
        title=f"{title}, transformers' network after accelerate()" + ("" if dtype == "float32" else f", {dtype}"),
        ours=own,
        peers={"transformers": peer},
        # In half precision rounding decides some of the assignments.
        tolerance=tolerance if dtype == "float32" else 1e-1,
        inputs={"images": inputs["pixel_values"]},
        error=error,
        forget=forget,
        kernels=("point_matching_cost", "linear_sum_assignment", "uncertain_points", "point_mask_loss", "pair_dot"),
        notes=(
            "forward and backward, gradients included, without the optimiser's step, which is the same for both",
            *notes,
        ),
    )
