"""Every op refuses tensors of two devices and logits that are not floating, and names what it refuses."""

from __future__ import annotations

import pytest
import torch

from maskformer_ext import ops
from maskformer_ext.ops import SegmentTargets

TARGETS = SegmentTargets(
    torch.zeros(1, 8, 8, dtype=torch.int32), torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)
)
PAIR = torch.zeros(1, dtype=torch.int64)
CLASSES, MASKS = torch.zeros(1, 3, 5), torch.zeros(1, 3, 4, 4)
EMBED, FEATURES = torch.zeros(1, 3, 6), torch.zeros(1, 6, 4, 4)
# what is called, the argument that is refused, and the arguments before and after it
CALLS = {
    "mask_dot": (lambda x: ops.mask_dot(EMBED, x), "mask_features", FEATURES),
    "sigmoid_focal_loss": (lambda x: ops.sigmoid_focal_loss(MASKS, x), "targets", torch.zeros_like(MASKS)),
    "dice_loss": (lambda x: ops.dice_loss(x, torch.zeros_like(MASKS)), "mask_logits|targets", MASKS),
    "mask_loss": (lambda x: ops.mask_loss(x, torch.zeros(3, 8, 8)), "mask_logits|targets", MASKS[0]),
    "matched_mask_loss": (
        lambda x: ops.matched_mask_loss(x, TARGETS, PAIR, PAIR),
        "mask_logits|targets|segment_map",
        MASKS[0, :1],
    ),
    "matching_cost": (lambda x: ops.matching_cost(CLASSES, x, TARGETS), "mask_logits", MASKS),
    "matching_cost_from_embeddings": (
        lambda x: ops.matching_cost_from_embeddings(CLASSES, EMBED, x, TARGETS),
        "mask_features",
        FEATURES,
    ),
    "semantic_inference": (lambda x: ops.semantic_inference(CLASSES[0], x, (8, 8)), "mask_logits", MASKS[0]),
    "semantic_scores": (lambda x: ops.semantic_scores(CLASSES[0], x, (8, 8)), "mask_logits", MASKS[0]),
    "panoptic_inference": (
        lambda x: ops.panoptic_inference(CLASSES[0], x, (8, 8), thing_classes=[0]),
        "mask_logits",
        MASKS[0],
    ),
    "instance_inference": (lambda x: ops.instance_inference(CLASSES[0], x, (8, 8)), "mask_logits", MASKS[0]),
}


@pytest.mark.parametrize("name", CALLS)
def test_two_devices_are_named(name):
    call, argument, tensor = CALLS[name]
    call(tensor)
    with pytest.raises(ValueError, match=rf"{name}: ({argument}).* must be on (cpu|meta) as .*, got (cpu|meta)"):
        call(tensor.to("meta"))


@pytest.mark.parametrize("name", CALLS)
def test_logits_that_are_not_floating_are_named(name):
    call, argument, tensor = CALLS[name]
    with pytest.raises(TypeError, match=rf"{name}: ({argument}) must have a floating dtype, got torch.int64"):
        call(tensor.long())


def test_an_assignment_of_two_devices_or_of_bad_counts_is_named():
    cost = torch.zeros(2, 4, 3)
    with pytest.raises(ValueError, match="linear_sum_assignment: num_targets must be on cpu as cost is, got meta"):
        ops.linear_sum_assignment(cost, torch.tensor([1, 2]).to("meta"))
    with pytest.raises(TypeError, match="linear_sum_assignment: num_targets must"):
        ops.linear_sum_assignment(cost, torch.tensor([1.0, 2.0]))
