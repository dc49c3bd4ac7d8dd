"""Native ops called directly, with arguments that no formula gives: refused, and nothing is read out of bounds."""

from __future__ import annotations

import pytest
import torch


def test_the_backward_of_attention_without_a_wanted_gradient_does_nothing(kernels):
    tensors = torch.zeros(1, 2, 6), torch.zeros(1, 4, 2, 3), [2, 2], torch.zeros(1, 2, 2, 1, 2), torch.zeros(1, 2, 2, 1)
    found = kernels.native.ms_deform_attn_backward(*tensors, [1], False, False, False)
    assert [x.shape for x in found] == [(0,)] * 3


@pytest.mark.parametrize("name", ["coefficients", "grad_cross_entropy", "grad_dice"])
def test_the_backward_of_the_point_loss_refuses_short_tensors(kernels, name):
    index = torch.zeros(2, dtype=torch.int64)
    inputs = torch.zeros(2, 3, 3), torch.zeros(1, 4, 4).int(), torch.ones(1).long(), index, index, torch.zeros(2, 5, 2)
    grads = {"coefficients": torch.zeros(2, 3), "grad_cross_entropy": torch.zeros(2), "grad_dice": torch.zeros(2)}
    kernels.native.point_mask_loss_backward(*inputs, False, *grads.values())
    grads[name] = torch.zeros(2, 0)
    with pytest.raises(RuntimeError, match=rf"point_mask_loss: {name} must be \(2,.*\), got \(2, 0\)"):
        kernels.native.point_mask_loss_backward(*inputs, False, *grads.values())


@pytest.mark.parametrize("name", ["maps", "coefficients", "grad_focal", "grad_dice"])
def test_the_backward_of_the_mask_loss_refuses_short_tensors(kernels, name):
    grads = {
        "maps": torch.zeros(2, 3, 4, 4),
        "coefficients": torch.zeros(2, 3),
        "grad_focal": torch.zeros(2),
        "grad_dice": torch.zeros(2),
    }
    kernels.native.mask_loss_backward(*grads.values(), torch.float32)
    grads[name] = torch.zeros(2, 1, 4, 4) if name == "maps" else torch.zeros(2, 0)
    with pytest.raises(RuntimeError, match=rf"mask_loss.*: {name} must be \(2,.*\), got \(2, [01]"):
        kernels.native.mask_loss_backward(*grads.values(), torch.float32)
