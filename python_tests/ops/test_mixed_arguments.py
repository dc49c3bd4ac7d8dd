"""Every op refuses tensors of two devices and logits that are not floating, and names what it refuses."""

from __future__ import annotations

import pytest
import torch
from op_samples import Sample, all_samples

from maskformer_ext import ops

DEVICES = "must be on (cpu|meta) as .*, got (cpu|meta)"


def each_tensor(*, beside_another: bool = False) -> list:
    """Return every floating tensor of every sample, or those of samples with another tensor or targets."""
    found = []
    for param in all_samples():
        (sample,) = param.values
        tensors = [x for x in (*sample.floating.values(), *sample.rest.values()) if hasattr(x, "device")]
        if beside_another and len(tensors) == 1:
            continue
        found += [pytest.param(sample, name, id=f"{sample.name}, {name}") for name in sample.floating]
    return found


@pytest.mark.parametrize(("sample", "name"), each_tensor(beside_another=True))
def test_two_devices_are_named(sample: Sample, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{sample.function.__name__}: [\w.]+ {DEVICES}"):
        sample(**{name: sample.floating[name].to("meta")})


@pytest.mark.parametrize(("sample", "name"), each_tensor())
def test_tensors_that_are_not_floating_are_named(sample: Sample, name: str) -> None:
    with pytest.raises(TypeError, match=rf"^{sample.function.__name__}: {name} must .*, got torch.int64"):
        sample(**{name: sample.floating[name].long()})


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
@pytest.mark.parametrize(("sample", "name"), each_tensor())
def test_dtypes_without_a_kernel_are_named_with_those_that_have_one(
    sample: Sample, name: str, dtype: torch.dtype
) -> None:
    choices = "float32, bfloat16, float16 or float64"
    with pytest.raises(TypeError, match=rf"^{sample.function.__name__}: {name} must be {choices}, got {dtype}"):
        sample(**{name: sample.floating[name].to(dtype)})


@pytest.mark.parametrize(("sample", "name"), each_tensor())
def test_tensors_without_strides_are_named(sample: Sample, name: str) -> None:
    given = sample.floating[name].detach()
    nested = torch.nested.nested_tensor([torch.zeros(2, 3)], dtype=given.dtype, layout=torch.jagged)
    for tensor, kind in ((given.to_sparse(), "torch.sparse_coo"), (nested, "nested")):
        with pytest.raises(TypeError, match=rf"^{sample.function.__name__}: {name} must be a dense Tensor, got {kind}"):
            sample(**{name: tensor})


def test_an_assignment_of_two_devices_or_of_bad_counts_is_named() -> None:
    cost = torch.zeros(2, 4, 3)
    with pytest.raises(ValueError, match="linear_sum_assignment: num_targets must be on cpu as cost is, got meta"):
        ops.linear_sum_assignment(cost, torch.tensor([1, 2]).to("meta"))
    with pytest.raises(TypeError, match="linear_sum_assignment: num_targets must"):
        ops.linear_sum_assignment(cost, torch.tensor([1.0, 2.0]))
