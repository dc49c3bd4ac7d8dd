"""How exact the sigmoid of the CPU kernels is, which csrc/common/math.h states."""

import pytest
import torch
from op_checks import native_only

from maskformer_ext.ops import mask_dot


def sigmoid_of(logits: torch.Tensor) -> torch.Tensor:
    """The kernels' sigmoid of (n,) values: each is a feature of one channel, and its embedding is 1."""
    features = logits.view(1, 1, 1, -1)
    return mask_dot(torch.ones(1, 1, 1), features, activation="sigmoid").flatten()


@native_only
@pytest.mark.parametrize(("largest", "units"), [(5.0, 4.0), (20.0, 4.5), (86.9, 6.5)])
def test_the_sigmoid_is_right_to_a_few_units_in_the_last_place(largest, units):
    logits = torch.linspace(-largest, largest, 1 << 22)
    expected = torch.sigmoid(logits.double())
    unit = torch.ldexp(torch.ones_like(expected), torch.frexp(expected).exponent - 24)
    assert ((sigmoid_of(logits).double() - expected).abs() / unit).max() <= units


@native_only
def test_the_sigmoid_of_what_is_not_finite():
    nan, inf = float("nan"), float("inf")
    found = sigmoid_of(torch.tensor([nan, inf, -inf, 100.0, -100.0, -0.0]))
    assert found[0].isnan() and found[1] == 1.0 and found[3] == 1.0 and found[5] == 0.5
    assert 0.0 < found[2] < 2e-38 and found[2] == found[4]
