"""Ops on meta tensors: the shapes and dtypes of the CPU's results, or a sentence where those follow from values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from op_samples import Sample, all_samples, tensors_of


def described(result: Any) -> list[tuple]:
    return [(part.shape, part.dtype) for part in tensors_of(result)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("sample", all_samples(values=False))
def test_shapes_and_dtypes_are_the_cpus(sample: Sample, dtype: torch.dtype) -> None:
    found = sample.to(dtype=dtype, device="meta")()
    assert described(found) == described(sample.to(dtype=dtype)())
    assert all(part.is_meta for part in tensors_of(found))


@pytest.mark.parametrize("sample", all_samples(values=True))
def test_results_whose_shape_follows_from_values_are_refused(sample: Sample) -> None:
    name = sample.function.__name__
    with pytest.raises(ValueError, match=f"{name}: inputs must have values, since .*, got meta tensors"):
        sample.to(device="meta")()
