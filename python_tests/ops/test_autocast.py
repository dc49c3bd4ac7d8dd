"""Autocast changes no op: neither forward nor, where backward runs inside of it, a gradient."""

from __future__ import annotations

import pytest
import torch
from op_samples import Sample, all_samples, tensors_of


def results(sample: Sample, *, enabled: bool) -> list[torch.Tensor]:
    inputs = {name: x.clone().requires_grad_() for name, x in sample.floating.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        out = tensors_of(sample(**inputs))
        total = sum(x.float().square().sum() for x in out if x.requires_grad)
        wanted = [inputs[name] for name in sample.differentiable]
        gradients = torch.autograd.grad(total, wanted) if isinstance(total, torch.Tensor) else ()
    return [*(x.detach() for x in out), *gradients]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sample", all_samples())
def test_autocast_changes_nothing(sample: Sample, dtype: torch.dtype) -> None:
    sample = sample.to(dtype=dtype)
    expected = results(sample, enabled=False)
    for ours, theirs in zip(results(sample, enabled=True), expected, strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
