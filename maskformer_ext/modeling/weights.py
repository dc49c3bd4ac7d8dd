"""The state of a model's weights: whether they changed since they were drawn, and whether they are numbers."""

from __future__ import annotations

import torch
from torch import nn


def nonfinite_weights(model: nn.Module) -> str | None:
    """Say which weights hold infinite values or NaN, None where all are finite."""
    bad = [
        (name, value)
        for name, value in model.state_dict().items()
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not bool(value.isfinite().all())
    ]
    if not bad:
        return None
    name, value = bad[0]
    count = int((~value.isfinite()).sum())
    others = f", and {len(bad) - 1} other tensors hold some" if len(bad) > 1 else ""
    return f"{count} of {value.numel()} values of {name} are infinite or NaN{others}"


def weights_version(model: nn.Module) -> int:
    """Return a number that grows whenever weights are changed in place: by training, or by loading."""
    return sum(0 if parameter.is_inference() else parameter._version for parameter in model.parameters())
