"""Ops on meta tensors: the shapes and dtypes of the CPU's results, or a sentence where those follow from values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maskformer_ext import ops
from maskformer_ext.ops import SegmentTargets
from maskformer_ext.ops.pair_dot import pair_logits

TARGETS = SegmentTargets(
    torch.randint(-1, 2, (2, 8, 8), dtype=torch.int32), torch.zeros(2, 2, dtype=torch.int64), torch.tensor([2, 2])
)
INDEX = torch.tensor([0, 1, -1])
COST = {"ignore_void": True, "alpha": -1.0}

CALLS = {
    "mask_dot": lambda x, t, i: ops.mask_dot(x(2, 2, 3, 6), x(2, 6, 4, 4)),
    "mask_dot, sigmoid": lambda x, t, i: ops.mask_dot(
        x(2, 3, 6), x(2, 6, 4, 4), activation="sigmoid", out_dtype=torch.float32
    ),
    "mask_dot, binary": lambda x, t, i: ops.mask_dot(x(2, 3, 6), x(2, 6, 4, 4), activation="binary"),
    "sigmoid_focal_loss": lambda x, t, i: ops.sigmoid_focal_loss(x(3, 4), x(3, 4)),
    "sigmoid_focal_loss, mean": lambda x, t, i: ops.sigmoid_focal_loss(x(3, 4), x(3, 4), reduction="mean"),
    "dice_loss": lambda x, t, i: ops.dice_loss(x(3, 8, 8), x(3, 8, 8)),
    "mask_loss": lambda x, t, i: ops.mask_loss(x(3, 4, 4), x(3, 8, 8)),
    "matched_mask_loss": lambda x, t, i: ops.matched_mask_loss(x(3, 4, 4), t, i, i),
    "matched_mask_loss of masks": lambda x, t, i: ops.matched_mask_loss(
        x(3, 4, 4), t.to_masks(), i, i, ignore_void=True
    ),
    "matched_mask_loss of none": lambda x, t, i: ops.matched_mask_loss(x(0, 4, 4), t, i[:0], i[:0]),
    "matching_cost": lambda x, t, i: ops.matching_cost(x(2, 2, 3, 5), x(2, 2, 3, 4, 4), t),
    "matching_cost of masks": lambda x, t, i: ops.matching_cost(x(2, 3, 5), x(2, 3, 4, 4), t.to_masks(), **COST),
    "matching_cost_from_embeddings": lambda x, t, i: ops.matching_cost_from_embeddings(
        x(2, 2, 3, 5), x(2, 2, 3, 6), x(2, 6, 4, 4), t
    ),
    "linear_sum_assignment": lambda x, t, i: ops.linear_sum_assignment(x(3, 4, 5), i.clamp(min=0)),
    "linear_sum_assignment of one": lambda x, t, i: ops.linear_sum_assignment(x(4, 5), i[0]),
    "semantic_inference": lambda x, t, i: ops.semantic_inference(x(3, 5), x(3, 4, 4), (9, 7), flip=True),
    "semantic_scores": lambda x, t, i: ops.semantic_scores(
        x(3, 5), x(3, 4, 4), (9, 7), input_size=(8, 8), crop=(7, 7), resize="scores"
    ),
    "pair_logits": lambda x, t, i: pair_logits(x(3, 2, 6), x(2, 6, 4, 4), i, 1),
}


def described(result: Tensor | tuple[Tensor, ...]) -> list[tuple]:
    parts = result if isinstance(result, tuple) else (result,)
    return [(part.shape, part.dtype) for part in parts]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", CALLS)
def test_shapes_and_dtypes_are_the_cpus(name, dtype):
    expected = CALLS[name](lambda *shape: torch.rand(shape).to(dtype), TARGETS, INDEX)
    found = CALLS[name](
        lambda *shape: torch.empty(shape, dtype=dtype, device="meta"), TARGETS.to("meta"), INDEX.to("meta")
    )
    assert described(found) == described(expected)
    assert all(part.is_meta for part in (found if isinstance(found, tuple) else (found,)))


@pytest.mark.parametrize("name", ["panoptic_inference", "instance_inference"])
def test_results_whose_shape_follows_from_values_are_refused(name):
    options = {"thing_classes": [0]}
    with pytest.raises(ValueError, match=f"{name}: inputs must have values, since .*, got meta tensors"):
        getattr(ops, name)(torch.empty(3, 5, device="meta"), torch.empty(3, 4, 4, device="meta"), (8, 8), **options)
