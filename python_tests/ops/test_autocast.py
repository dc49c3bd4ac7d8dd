"""Autocast changes no op: neither forward nor, where backward runs inside of it, a gradient."""

from __future__ import annotations

import pytest
import torch
from test_derivatives import IMAGE, INSIDE, SEGMENT, TARGETS

from maskformer_ext import ops
from maskformer_ext.ops.pair_dot import pair_logits

CLASSES, MASKS = torch.randn(2, 3, 5), torch.randn(2, 3, 4, 4)
EMBED, FEATURES = torch.randn(2, 3, 6), torch.randn(2, 6, 4, 4)

OPS = {
    "mask_dot": (ops.mask_dot, (EMBED, FEATURES)),
    "mask_dot to float32": (lambda e, f: ops.mask_dot(e, f, out_dtype=torch.float32), (EMBED, FEATURES)),
    "mask_dot, sigmoid": (lambda e, f: ops.mask_dot(e, f, activation="sigmoid"), (EMBED, FEATURES)),
    "sigmoid_focal_loss": (
        lambda x: ops.sigmoid_focal_loss(x, INSIDE[:, :4, :4].to(x.dtype), reduction="mean"),
        (MASKS[0],),
    ),
    "dice_loss": (lambda x: ops.dice_loss(x, INSIDE[:, :4, :4]), (MASKS[0],)),
    "mask_loss": (lambda x: torch.stack(ops.mask_loss(x, INSIDE)), (MASKS[0],)),
    "matched_mask_loss": (lambda x: torch.stack(ops.matched_mask_loss(x, TARGETS, IMAGE, SEGMENT)), (MASKS[0],)),
    "pair_logits": (lambda e, f: pair_logits(e, f, torch.tensor([0, 1]), 1), (EMBED[:, :2], FEATURES)),
    "matching_cost": (lambda c, m: ops.matching_cost(c, m, TARGETS), (CLASSES, MASKS)),
    "matching_cost_from_embeddings": (
        lambda c, e, f: ops.matching_cost_from_embeddings(c, e, f, TARGETS),
        (CLASSES, EMBED, FEATURES),
    ),
    "semantic_scores": (lambda c, m: ops.semantic_scores(c, m, (9, 9)), (CLASSES[0], MASKS[0])),
    "semantic_scores, resized": (
        lambda c, m: ops.semantic_scores(c, m, (9, 9), input_size=(7, 7), resize="scores"),
        (CLASSES[0], MASKS[0]),
    ),
    "instance_inference": (lambda c, m: ops.instance_inference(c, m, (9, 9)).scores, (CLASSES[0], MASKS[0])),
}


def results(function, inputs, *, enabled: bool) -> list[torch.Tensor]:
    inputs = [x.clone().requires_grad_() for x in inputs]
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        out = function(*inputs)
        gradients = torch.autograd.grad(out.float().square().sum(), inputs) if out.requires_grad else ()
    return [out.detach(), *gradients]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", OPS)
def test_autocast_changes_nothing(name, dtype):
    function, inputs = OPS[name]
    inputs = [x.to(dtype) for x in inputs]
    expected = results(function, inputs, enabled=False)
    for ours, theirs in zip(results(function, inputs, enabled=True), expected, strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
