"""box_matching_cost and linear_sum_assignment against the matchers of transformers' detection models."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from benchmarks.case import Case, case_name, optional
from maskformer_ext.ops import BoxTargets, box_matching_cost, linear_sum_assignment

WEIGHTS = {"class_weight": 2.0, "box_weight": 5.0, "giou_weight": 2.0}
SMALL = {"images": 2, "queries": 5, "objects": 3, "classes": 4}
ON_GPU = [
    {"images": 16, "queries": 300, "objects": 30, "classes": 80, "groups": groups, "class_cost": class_cost}
    for groups in (1, 13)
    for class_cost in ("focal", "softmax")
    if groups == 1 or class_cost == "focal"
]


def build(
    *, device: str, images: int, queries: int, objects: int, classes: int, groups: int = 1, class_cost: str = "focal"
) -> Case:
    """Make predictions of `groups` times `queries`, and as many objects in every image.

    Groups are matched as LW-DETR and RF-DETR do, one group as RT-DETR does.
    """
    of_one, of_groups = (optional(f"transformers.loss.loss_{name}") for name in ("rt_detr", "lw_detr"))
    generator = torch.Generator().manual_seed(0)

    def boxes(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, 4, generator=generator).mul(0.3).add(0.2).to(device)

    logits = torch.randn(images, groups * queries, classes, generator=generator).to(device)
    predicted = boxes(images, groups * queries)
    outputs = {"logits": logits, "pred_boxes": predicted}
    labels = [
        {
            "class_labels": torch.randint(0, classes, (objects,), generator=generator).to(device),
            "boxes": boxes(objects),
        }
        for _ in range(images)
    ]

    def ours():
        targets = BoxTargets.from_dicts(labels)
        cost = box_matching_cost(logits, predicted, targets, class_cost=class_cost, **WEIGHTS)
        return linear_sum_assignment(cost.unflatten(-2, (groups, queries)), targets.num_segments[:, None])

    def peer():
        if groups > 1:
            return of_groups.LwDetrHungarianMatcher(2.0, 5.0, 2.0)(outputs, labels, groups)
        options = {"matcher_class_cost": 2.0, "matcher_bbox_cost": 5.0, "matcher_giou_cost": 2.0}
        options |= {"use_focal_loss": class_cost == "focal", "matcher_alpha": 0.25, "matcher_gamma": 2.0}
        return of_one.RTDetrHungarianMatcher(SimpleNamespace(**options))(outputs, labels)

    def error(assignment: torch.Tensor, pairs: list) -> float:
        """Compare total costs: where costs tie, several assignments are right."""
        targets = BoxTargets.from_dicts(labels)
        cost = box_matching_cost(logits.double(), predicted, targets, class_cost=class_cost, **WEIGHTS).cpu()
        offsets = torch.arange(groups, device=device)[:, None] * queries
        worst = 0.0
        for image, (found, (theirs, objects_of)) in enumerate(zip((assignment + offsets).cpu(), pairs, strict=True)):
            total = cost[image, found.flatten(), torch.arange(objects).repeat(groups)].sum()
            expected = cost[image, theirs, objects_of].sum()
            worst = max(worst, float((total - expected).abs() / expected.abs()))
        return worst

    return Case(
        op="box_matching_cost",
        title=f"B {images}, Q {queries}{f' in {groups} groups' if groups > 1 else ''}, T {objects}, K {classes}, "
        f"{class_cost}, with the assignment",
        ours=ours,
        peers={"transformers": peer} if of_one and of_groups and optional("scipy") else {},
        no_peer="transformers or scipy is not installed",
        tolerance=1e-6,
        inputs=outputs,
        error=error,
        kernels=("box_matching_cost", "linear_sum_assignment"),
        notes=("the peer computes the costs of all queries with the objects of all images",),
    )


@pytest.mark.parametrize("groups", [1, 13])
def test_box_matching_cost(compare, groups):
    """The matchers of RT-DETR, and of LW-DETR with its 13 groups."""
    compare(images=8, queries=300, objects=30, classes=80, groups=groups)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_box_matching_cost_on_a_gpu(compare_on_gpu, parameters):
    """A batch of 16 images."""
    compare_on_gpu(**parameters)
