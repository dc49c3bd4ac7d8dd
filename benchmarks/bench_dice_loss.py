"""dice_loss against transformers', at full resolution."""

from __future__ import annotations

import pytest
import torch

from benchmarks.case import Case, case_name, optional
from maskformer_ext.ops import dice_loss

SMALL = {"masks": 2, "size": 32}
ON_GPU = [{"masks": 320}]


def build(*, device: str, masks: int = 20, size: int = 512) -> Case:
    """Make logits and 0/1 targets (masks, size, size)."""
    theirs = optional("transformers.models.maskformer.modeling_maskformer")
    generator = torch.Generator().manual_seed(0)
    shape = (masks, size, size)
    logits = (3 * torch.randn(shape, generator=generator)).to(device).requires_grad_()
    targets = (torch.rand(shape, generator=generator) > 0.7).float().to(device)

    def ours():
        loss = dice_loss(logits, targets).sum() / masks
        return loss.detach(), *torch.autograd.grad(loss, logits)

    def peer():
        loss = theirs.dice_loss(logits.flatten(1), targets.flatten(1), masks)
        return loss.detach(), *torch.autograd.grad(loss, logits)

    return Case(
        op="dice_loss",
        title=f"{masks} masks {size}x{size}, forward + backward",
        ours=ours,
        peers={"transformers": peer} if theirs else {},
        no_peer="transformers is not installed",
        tolerance=1e-5,
        inputs={"mask_logits": logits, "targets": targets},
    )


@pytest.mark.parametrize("masks", [20])
def test_dice_loss(compare, masks):
    """The loss of each mask and its gradient."""
    compare(masks=masks)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_dice_loss_on_a_gpu(compare_on_gpu, parameters):
    """All matched masks of 16 images at full resolution."""
    compare_on_gpu(**parameters)
