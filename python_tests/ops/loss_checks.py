"""What the tests of the losses share: the error measure, inputs, and a run on each instruction set."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]
CPU_LEVELS = ["baseline", "avx2", "avx512"]
LARGEST_ERROR = 2e-6


def error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected magnitude."""
    difference = (actual.detach().double() - expected.detach()).abs().max()
    return float(difference / expected.detach().abs().max().clamp_min(1e-300))


def loss_errors(loss, mask_logits: Tensor) -> dict[str, float]:
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
        errors[name] = error(actual, expected)
        errors[f"grad_{name}"] = error(grad, expected_grad)
    return errors


def run_on_cpu_level(level: str, code: str) -> None:
    """Run code in a fresh process that uses one instruction set (or the widest below it that the processor has)."""
    environment = {**os.environ, "MASKFORMER_EXT_CPU": level, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
