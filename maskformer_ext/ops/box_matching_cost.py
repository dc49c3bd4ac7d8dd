"""The cost of assigning each predicted box to each object: class, L1 and generalised IoU terms."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskformer_ext.ops.support import checks, value_checks
from maskformer_ext.ops.support.library import native, register, without_autocast
from maskformer_ext.ops.targets import BoxTargets

_OP = "box_matching_cost"
_EPSILON = 1e-8  # is added to a probability before its logarithm is taken

CLASS_COSTS = ("focal", "softmax")


class BoxCostOptions(NamedTuple):
    """What ``box_matching_cost`` is told beside predictions and targets."""

    class_weight: float = 2.0
    box_weight: float = 5.0
    giou_weight: float = 2.0
    class_cost: str = "focal"
    alpha: float = 0.25
    gamma: float = 2.0


def box_matching_cost(
    logits: Tensor,
    boxes: Tensor,
    targets: BoxTargets,
    *,
    class_weight: float = 2.0,
    box_weight: float = 5.0,
    giou_weight: float = 2.0,
    class_cost: str = "focal",
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Tensor:
    """Compute the matching cost of every query with every object of its own image.

    The cost is ``class_weight * class + box_weight * L1 - giou_weight * GIoU``. L1 is the sum over the four numbers of
    a box. The class term is one of two, where p is the probability of the object's class:

    - "focal", p = sigmoid: ``-alpha (1 - p)^gamma log(p + 1e-8) + (1 - alpha) p^gamma log(1 - p + 1e-8)``;
    - "softmax": ``-p``.

    Groups of queries that share the objects (Group DETR) are rows like any others. ``cost.unflatten(-2, (G, Q // G))``
    makes them problems of their own for ``linear_sum_assignment``, without a copy. No gradient.

    Args:
        logits: (..., B, Q, C) floating, a column per class; leading dimensions are decoder layers. With "softmax" the
            column of "no object" is one of them.
        boxes: (..., B, Q, 4) floating, as in ``targets``.
        targets: the objects of the B images.
        class_weight: factor of the class cost.
        box_weight: factor of the L1 cost.
        giou_weight: factor of the generalised IoU.
        class_cost: "focal" or "softmax".
        alpha: weight of the positive term of "focal", 1 - alpha that of the negative one; negative: no weights.
        gamma: exponent of "focal".

    Returns:
        (..., B, Q, T) float32, or float64 where an input is. Columns beyond ``num_segments`` are 0. A pair whose cost
        is not finite costs +inf. That holds for NaN, for infinite boxes, and where both boxes have no area.

    Raises:
        TypeError: an input is not floating, or an option is of another type.
        ValueError: shapes or devices do not fit, or an option is out of range.
        ValueError: a label or a number of objects is out of range. On a GPU such a pair costs +inf and the number is
            clamped, unless `MASKFORMER_EXT_CHECKS=1`.

    Source: DETR (arXiv 2005.12872), section 3.1; Deformable DETR (arXiv 2010.04159), appendix A.3; generalised IoU:
    arXiv 1902.09630, algorithm 1; groups: Group DETR (arXiv 2207.13085).
    """
    options = BoxCostOptions(class_weight, box_weight, giou_weight, class_cost, alpha, gamma)
    _check(logits, boxes, targets, options)
    logits, boxes = logits.detach(), boxes.detach()
    if native(_OP, logits, boxes, targets.boxes):
        return value_checks.call_checked(
            torch.ops.maskformer_ext.box_matching_cost,
            logits,
            boxes,
            targets.boxes.detach().float(),
            targets.labels,
            targets.num_segments,
            float(class_weight),
            float(box_weight),
            float(giou_weight),
            class_cost == "softmax",
            float(alpha) if alpha >= 0 else -1.0,
            float(gamma),
            device=logits.device,
            check=lambda: _check_values(logits, targets),
        )
    return box_matching_cost_reference(logits, boxes, targets, options)


def _fake(logits: Tensor, boxes: Tensor, target_boxes: Tensor, *rest: Any) -> Tensor:
    return logits.new_empty((*logits.shape[:-1], target_boxes.shape[1]), dtype=torch.float32)


register(_OP, fake=_fake)


def box_matching_cost_reference(logits: Tensor, boxes: Tensor, targets: BoxTargets, options: BoxCostOptions) -> Tensor:
    """Compute ``box_matching_cost`` in plain PyTorch; arguments are those of ``box_matching_cost``, checked."""
    if value_checks.may_read(logits.device):
        _check_values(logits, targets)
    double = torch.float64 in (logits.dtype, boxes.dtype, targets.boxes.dtype)
    dtype = torch.float64 if double else torch.float32
    with torch.no_grad(), without_autocast(logits):
        query, target = boxes.to(dtype).unsqueeze(-2), targets.boxes.to(dtype).unsqueeze(-3)
        cost = options.class_weight * _class_cost(logits.to(dtype), targets.labels, options)
        cost = cost + options.box_weight * (query - target).abs().sum(-1)
        cost = cost - options.giou_weight * _generalised_iou(query, target)
        inside = (targets.labels >= 0) & (targets.labels < logits.shape[-1])
        cost = cost.where(cost.isfinite() & inside.unsqueeze(-2), cost.new_full((), torch.inf))
        real = torch.arange(targets.labels.shape[1], device=cost.device) < targets.num_segments.unsqueeze(-1)
        return cost.where(real.unsqueeze(-2), cost.new_zeros(()))


def _class_cost(logits: Tensor, labels: Tensor, options: BoxCostOptions) -> Tensor:
    """Return (..., B, Q, T), each query's cost of each object's class."""
    label = labels.clamp(0, logits.shape[-1] - 1).unsqueeze(-2)

    def of_objects(values: Tensor) -> Tensor:
        return values.gather(-1, label.expand(*values.shape[:-1], -1))

    if options.class_cost == "softmax":
        return -of_objects(logits.softmax(-1))
    logit = of_objects(logits)
    probability, complement = logit.sigmoid(), (-logit).sigmoid()  # 1 - probability would cancel
    positive = complement.pow(options.gamma) * -(probability + _EPSILON).log()
    negative = probability.pow(options.gamma) * -(complement + _EPSILON).log()
    if options.alpha >= 0:
        positive, negative = options.alpha * positive, (1 - options.alpha) * negative
    return positive - negative


def _generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalised IoU of boxes (..., 4) that broadcast.

    Edges are taken from the centre of ``a``: those of small boxes would lose their last digits otherwise.
    """
    distance = b[..., :2] - a[..., :2]
    half_a, half_b = a[..., 2:] / 2, b[..., 2:] / 2
    low, high = distance - half_b, distance + half_b
    both = (torch.minimum(half_a, high) - torch.maximum(-half_a, low)).clamp(min=0).prod(-1)
    hull = (torch.maximum(half_a, high) - torch.minimum(-half_a, low)).clamp(min=0).prod(-1)
    union = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - both
    return both / union + union / hull - 1


def _check(logits: Tensor, boxes: Tensor, targets: BoxTargets, options: BoxCostOptions) -> None:
    checks.check_floating(_OP, logits=logits, boxes=boxes)
    checks.check_finite(
        _OP, class_weight=options.class_weight, box_weight=options.box_weight, giou_weight=options.giou_weight
    )
    checks.check_choice(_OP, "class_cost", options.class_cost, CLASS_COSTS)
    checks.check_focal(_OP, options.alpha, options.gamma)
    if not isinstance(targets, BoxTargets):
        raise TypeError(f"{_OP}: targets must be BoxTargets, got {type(targets).__name__}")
    if logits.dim() < 3 or logits.shape[-1] < 1:
        raise ValueError(f"{_OP}: logits must be (..., B, Q, C) with C >= 1, got {checks.shape(logits)}")
    if tuple(boxes.shape) != (*logits.shape[:-1], 4):
        raise ValueError(
            f"{_OP}: boxes must be (..., B, Q, 4) with (..., B, Q) = {tuple(logits.shape[:-1])}, as logits, "
            f"got {checks.shape(boxes)}"
        )
    if logits.shape[-3] != targets.labels.shape[0]:
        raise ValueError(f"{_OP}: targets must hold B = {logits.shape[-3]} images, got {targets.labels.shape[0]}")
    checks.check_same_device(
        _OP,
        logits=logits,
        boxes=boxes,
        targets=targets.boxes,
        labels=targets.labels,
        num_segments=targets.num_segments,
    )


def _check_values(logits: Tensor, targets: BoxTargets) -> None:
    """Raise ValueError where a label or a number of objects is out of range (reads the tensors)."""
    value_checks.check_counts(_OP, targets)
    value_checks.check_labels(_OP, targets, logits.shape[-1])
