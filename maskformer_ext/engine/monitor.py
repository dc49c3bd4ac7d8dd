"""Watch the losses without waiting for the device in every step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from maskformer_ext.errors import UserError


@dataclass
class _Step:
    iteration: int
    names: list[str]
    values: Tensor


@dataclass
class StepMonitor:
    """Keep the losses of recent steps on the device, read them together, count the steps that are not finite.

    The optimiser step of a bad iteration is skipped on the device, by the gradient scaler. The host learns of it here.

    Attributes:
        max_bad_steps: so many bad steps in a row end the training.
        bad_in_row: bad steps since the last good one.
        bad_steps: bad steps altogether.
    """

    max_bad_steps: int
    bad_in_row: int = 0
    bad_steps: int = 0
    _keys: tuple[str, ...] = ()
    _steps: list[_Step] = field(default_factory=list)
    _good: list[list[float]] = field(default_factory=list)

    def record(self, iteration: int, names: list[str], values: dict[str, Tensor]) -> None:
        """Remember one step.

        Args:
            iteration: counted from 1.
            names: the images of the batch.
            values: 0-dim tensors on one device, the same keys in every step; "loss" and "grad_norm" decide whether
                the step is bad.
        """
        self._keys = tuple(values)
        self._steps.append(_Step(iteration, names, torch.stack([value.detach().float() for value in values.values()])))

    def check(self) -> bool:
        """Wait for the recorded steps and count the bad ones.

        Returns:
            Whether there was a bad step since the last check.

        Raises:
            UserError: after too many bad steps in a row. It names the step, what was not finite, and the images.
        """
        before = self.bad_steps
        rows = torch.stack([step.values for step in self._steps]).tolist() if self._steps else []
        for step, row in zip(self._steps, rows, strict=True):
            values = dict(zip(self._keys, row, strict=True))
            if math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"]):
                self._good.append(row)
                self.bad_in_row = 0
                continue
            self.bad_in_row += 1
            self.bad_steps += 1
            if self.bad_in_row >= self.max_bad_steps:
                raise UserError(self._explain(step, values))
        self._steps.clear()
        return self.bad_steps > before

    def mean(self) -> dict[str, float]:
        """Return the mean of every value over the good steps since the last call; NaN if there was none."""
        rows, self._good = self._good, []
        if not rows:
            return dict.fromkeys(self._keys, math.nan)
        return {key: sum(column) / len(rows) for key, column in zip(self._keys, zip(*rows, strict=True), strict=True)}

    def _explain(self, step: _Step, values: dict[str, float]) -> str:
        parts = [
            describe_loss(key)
            for key, value in values.items()
            if key not in ("loss", "grad_norm") and not math.isfinite(value)
        ]
        what = ", ".join(parts) or ("the gradient" if math.isfinite(values["loss"]) else "the loss")
        return (
            f"step {step.iteration}: {what} {'are' if len(parts) > 1 else 'is'} not finite for the images "
            f"{', '.join(step.names)}; training stopped after {self.bad_in_row} such steps in a row, none of which "
            "changed the weights: check these images, or lower optimizer.lr"
        )


def describe_loss(key: str) -> str:
    """Name a loss with its decoder layer: ``loss_mask_0`` is of layer 1, ``loss_mask`` of the last."""
    stem, _, suffix = key.rpartition("_")
    return f"{stem} (decoder layer {int(suffix) + 1})" if suffix.isdigit() else f"{key} (last decoder layer)"


class BufferGuard:
    """Keep a copy of the running statistics of batch norms, since a bad step writes NaN into them for good."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self._copies = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def check(self, *, bad: bool) -> None:
        """Take a new copy, or after bad steps put the last copy back where a value is not finite."""
        if not bad:
            if self._buffers:
                torch._foreach_copy_(self._copies, self._buffers)
            return
        for buffer, copy in zip(self._buffers, self._copies, strict=True):
            buffer.copy_(torch.where(torch.isfinite(buffer), buffer, copy))
