"""What the tests of the ops share: the error measure, and runs with several numbers of threads."""

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from maskformer_ext.ops.support.library import REFERENCE

# Kernels built with sanitizers are not vectorised, so their sums add up more terms one after the other.
LARGEST_ERROR = 2e-5 if "MASKFORMER_EXT_SANITIZED" in os.environ else 2e-6
native_only = pytest.mark.skipif(REFERENCE, reason="MASKFORMER_EXT_REFERENCE=1")


def error(actual: Tensor, expected: Tensor, floor: float = 1e-300) -> float:
    """Largest difference over the largest expected magnitude (at least floor); 0 for tensors without elements."""
    assert actual.shape == expected.shape
    if expected.numel() == 0:
        return 0.0
    difference = (actual.detach().double() - expected.detach()).abs().max()
    return float(difference / expected.detach().abs().max().clamp_min(floor))


def loss_errors(loss, mask_logits: Tensor, floor: float = 1e-300) -> dict[str, float]:
    """Compare `loss(logits) -> (focal, dice)` and its gradients with the float64 reference."""
    logits = mask_logits.detach().requires_grad_()
    wide = mask_logits.detach().double().requires_grad_()
    errors = {}
    for name, actual, expected in zip(("focal", "dice"), loss(logits), loss(wide), strict=True):
        assert actual.dtype == torch.float32
        assert expected.dtype == torch.float64
        (grad,) = torch.autograd.grad(actual.sum(), logits, retain_graph=True)
        (expected_grad,) = torch.autograd.grad(expected.sum(), wide, retain_graph=True)
        assert grad.dtype == logits.dtype
        errors[name] = error(actual, expected, floor)
        errors[f"grad_{name}"] = error(grad, expected_grad, floor)
    return errors


def at_thread_counts(call: Callable[[], Tensor | tuple[Tensor, ...]]) -> None:
    """Assert that 1, 2 and 4 threads give the same bits."""
    before, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            result = call()
            results.append(result if isinstance(result, tuple) else (result,))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def shifted(tensor: Tensor, by: int) -> Tensor:
    """Copy a dense tensor, strides kept, to memory whose first element lies `by` elements behind the allocation's."""
    memory = torch.empty(by + tensor.numel(), dtype=tensor.dtype, device=tensor.device)
    return torch.as_strided(memory, tensor.shape, tensor.stride(), by).copy_(tensor)
