"""The CUDA kernels of the elementwise focal loss against the CPU's."""

from __future__ import annotations

import pytest
import torch
from op_checks import error


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("gamma", [2.0, 0.0, 1.5])
def test_loss_sum_and_gradient(shim, dtype, gamma):
    cpu = torch.ops.maskformer_ext
    inputs, targets = torch.randn(3, 6001).to(dtype), torch.rand(3, 6001).to(dtype)
    grad = torch.randn(3, 6001).to(dtype)
    tolerance = 2e-6 if dtype == torch.float32 else 8e-3
    for reduction in (0, 1, 2):  # none, mean, sum
        arguments = (inputs, targets, 0.25, gamma, reduction)
        assert error(shim.sigmoid_focal_loss(*arguments), cpu.sigmoid_focal_loss(*arguments)) <= tolerance
    for given in (grad, grad[0, 0]):
        ours = shim.sigmoid_focal_loss_backward(given, inputs, targets, 0.25, gamma)
        assert error(ours, cpu.sigmoid_focal_loss_backward(given, inputs, targets, 0.25, gamma)) <= tolerance
