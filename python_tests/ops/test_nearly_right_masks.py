"""The dice cost of a mask that is almost right: a small number, not the difference of two that are nearly equal."""

from typing import Any

import pytest
import torch
from segments import random_targets
from torch import Tensor

from maskformer_ext import ops
from maskformer_ext.ops import MaskTargets

SIZE = 32  # a power of two, so that points lie on pixels exactly
LOGIT = 9.0  # every pixel is right but for 1.2e-4
DICE = {"class_weight": 0.0, "dice_weight": 1.0}
PIXELS: dict[str, Any] = DICE | {"focal_weight": 0.0}
POINTS: dict[str, Any] = DICE | {"mask_weight": 0.0}


def targets_of(form: str):
    torch.manual_seed(3)
    if form == "noise":  # overlaps in more ways than there are groups for
        masks = torch.rand(1, 12, SIZE, SIZE) < 0.5
        return MaskTargets(masks, torch.zeros(1, 12, dtype=torch.int64), torch.tensor([12]))
    segments = random_targets(1, [4], 4, (SIZE, SIZE), 3, void=0.1, cell=8)
    return segments if form == "map" else segments.to_masks()


def dice_costs(kernels: Any, op: str, targets, dtype: torch.dtype) -> Tensor:
    """The costs of queries that are the targets themselves, each with its own segment."""
    masks = targets if isinstance(targets, MaskTargets) else targets.to_masks()
    logits = ((2 * masks.masks.double() - 1) * LOGIT).to(dtype)
    queries = logits.shape[1]
    classes = torch.zeros(1, queries, 4, dtype=dtype)
    embed = torch.eye(queries, dtype=dtype)[None]  # query q is channel q
    steps = torch.arange(SIZE)
    points = ((torch.cartesian_prod(steps, steps).flip(-1) + 0.5) / SIZE)[None]  # float32 also where the rest is not
    if op == "matching_cost":
        cost = kernels.matching_cost(classes, logits, targets, **PIXELS)
    elif op == "matching_cost_from_embeddings":
        cost = kernels.matching_cost_from_embeddings(classes, embed, logits, targets, **PIXELS)
    elif op == "point_matching_cost":
        cost = kernels.point_matching_cost(classes, logits, targets, points, **POINTS)
    else:
        cost = kernels.point_matching_cost_from_embeddings(classes, embed, logits, targets, points, **POINTS)
    return cost.diagonal(dim1=-2, dim2=-1)


@pytest.mark.parametrize("form", ["map", "masks", "noise"])
@pytest.mark.parametrize(
    "op",
    [
        "matching_cost",
        "matching_cost_from_embeddings",
        "point_matching_cost",
        "point_matching_cost_from_embeddings",
    ],
)
def test_the_dice_cost_of_a_nearly_right_mask_keeps_its_digits(kernels, op, form):
    targets = targets_of(form)
    ours = dice_costs(kernels, op, targets, torch.float32)
    with kernels.of_the_cpu():
        truth = dice_costs(ops, op, targets, torch.float64)
    assert ours.dtype == torch.float32
    assert 0.0 < truth.min() < 1e-3
    assert (ours / truth - 1).abs().max() <= 2e-6  # of each cost, however small
