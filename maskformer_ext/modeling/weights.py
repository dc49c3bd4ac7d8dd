"""The state of a model's weights: whether they changed since they were drawn, and whether they are numbers."""

from __future__ import annotations

import torch
from torch import nn

_SAMPLED = 4  # values of each parameter; every one of them changes in the first step of training


def nonfinite_weights(model: nn.Module) -> str | None:
    """Return which weights hold infinite values or NaN, None where all are finite."""
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


def sample_weights(model: nn.Module) -> list[torch.Tensor]:
    """Return copies of the first values of every parameter, to tell later whether they changed.

    Fused optimizers change weights without counting a version.
    """
    return [parameter.detach().reshape(-1)[:_SAMPLED].clone() for parameter in model.parameters()]


def still_holds(model: nn.Module, sample: list[torch.Tensor]) -> bool:
    """Return whether the parameters begin with the values of an earlier `sample_weights`, rounded to their dtype."""
    now = sample_weights(model)
    return len(now) == len(sample) and all(
        new.shape == old.shape and (new.is_meta or old.is_meta or torch.equal(new, old.to(new)))
        for new, old in zip(now, sample, strict=True)
    )
