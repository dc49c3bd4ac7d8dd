"""sigmoid_focal_loss against torchvision's, forward and backward, at full resolution."""

from __future__ import annotations

import pytest
import torch

from benchmarks.case import Case, case_name, optional
from maskformer_ext.ops import sigmoid_focal_loss

SMALL = {"masks": 2, "size": 32}
ON_GPU = [{"masks": 320}]


def build(*, device: str, masks: int = 20, size: int = 512, reduction: str = "none") -> Case:
    """Make logits and 0/1 targets (masks, size, size)."""
    torchvision = optional("torchvision.ops")
    generator = torch.Generator().manual_seed(0)
    shape = (masks, size, size)
    logits = (3 * torch.randn(shape, generator=generator)).to(device).requires_grad_()
    targets = (torch.rand(shape, generator=generator) > 0.7).float().to(device)
    grad = torch.rand(shape if reduction == "none" else (), generator=generator).to(device)

    def call(function):
        loss = function(logits, targets, alpha=0.25, gamma=2.0, reduction=reduction)
        return loss.detach(), *torch.autograd.grad(loss, logits, grad)

    return Case(
        op="sigmoid_focal_loss",
        title=f"{masks} masks {size}x{size}, reduction={reduction}, forward + backward",
        ours=lambda: call(sigmoid_focal_loss),
        peers={"torchvision": lambda: call(torchvision.sigmoid_focal_loss)} if torchvision else {},
        no_peer="torchvision is not installed",
        tolerance=1e-5,
        inputs={"inputs": logits, "targets": targets},
    )


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_sigmoid_focal_loss(compare, reduction):
    """The elementwise loss, and its mean."""
    compare(reduction=reduction)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_sigmoid_focal_loss_on_a_gpu(compare_on_gpu, parameters):
    """All matched masks of 16 images at full resolution."""
    compare_on_gpu(**parameters)
