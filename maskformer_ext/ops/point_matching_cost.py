"""The matching cost over sampled points: class, cross-entropy and dice terms."""

import torch
from torch import Tensor

from maskformer_ext.ops.support import checks, value_checks
from maskformer_ext.ops.support.library import native, register, without_autocast
from maskformer_ext.ops.support.matching import check_values
from maskformer_ext.ops.support.point_matching import (
    PointCostOptions,
    call_kernel,
    check_inputs,
    cost_reference,
    fake_cost,
    sample_planes,
)
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets

_OP = "point_matching_cost"


def point_matching_cost(
    class_logits: Tensor,
    mask_logits: Tensor,
    targets: SegmentTargets | MaskTargets,
    points: Tensor,
    *,
    class_weight: float = 2.0,
    mask_weight: float = 5.0,
    dice_weight: float = 5.0,
    sampling: str = "bilinear",
) -> Tensor:
    """Compute the matching cost of every query with every segment of its image, over points.

    The cost is ``class_weight * -softmax(class_logits)[label] + mask_weight * entropy + dice_weight * dice``. Mask
    logits x and targets t are sampled at the points. The entropy is the mean binary cross-entropy, and dice is
    ``1 - (2 x.t + 1) / (sum x + sum t + 1)`` with x as probabilities. No gradient.

    Args:
        class_logits: (..., B, Q, K + 1) floating, the last column "no object"; leading dimensions are decoder layers.
        mask_logits: (..., B, Q, h, w) floating, sampled bilinearly with zeros outside.
        targets: the segments of the B images, of any size (H, W).
        points: (..., B, P, 2) floating, x and y in [0, 1]: the points of all queries and segments of an image.
        class_weight: factor of the class cost.
        mask_weight: factor of the cross-entropy.
        dice_weight: factor of the dice cost.
        sampling: "bilinear" or "nearest", how targets are sampled.

    Returns:
        (..., B, Q, T) float32, or float64 where an input is. Columns beyond ``num_segments`` are 0. Rows are +inf of
        queries with a NaN or +inf class logit or a mask logit that is not finite at a point.

    Raises:
        TypeError: an input is not floating, or an option is of another type.
        ValueError: shapes or devices do not fit, or an option is out of range.
        ValueError: a label or segment id is out of range (on a GPU such segments are void unless
            `MASKFORMER_EXT_CHECKS=1`).

    Source: Mask2Former (arXiv 2112.01527), section 3.3: matching over sampled points.
    """
    _check_predictions(class_logits, mask_logits)
    options = PointCostOptions(class_weight, mask_weight, dice_weight, sampling)
    leading, size = tuple(mask_logits.shape[:-3]), (mask_logits.shape[-2], mask_logits.shape[-1])
    check_inputs(_OP, class_logits, targets, points, options, leading, size)
    class_logits, mask_logits, points = class_logits.detach(), mask_logits.detach(), points.detach()
    if native(_OP, class_logits, mask_logits, points):
        return call_kernel(_OP, (class_logits, mask_logits), targets, points, options)
    return point_matching_cost_reference(class_logits, mask_logits, targets, points, options)


register(_OP, fake=lambda class_logits, mask_logits, *rest: fake_cost(class_logits, *rest))


def point_matching_cost_reference(
    class_logits: Tensor,
    mask_logits: Tensor,
    targets: SegmentTargets | MaskTargets,
    points: Tensor,
    options: PointCostOptions,
) -> Tensor:
    """Compute ``point_matching_cost`` in plain PyTorch; arguments are those of the op, checked."""
    if value_checks.may_read(class_logits.device):
        check_values(_OP, class_logits.shape[-1] - 1, targets)
    double = torch.float64 in (class_logits.dtype, mask_logits.dtype, points.dtype)
    dtype = torch.float64 if double else torch.float32
    with torch.no_grad(), without_autocast(class_logits):
        logits = sample_planes(mask_logits.to(dtype), points.to(dtype))
        return cost_reference(class_logits, logits, targets, points, options)


def _check_predictions(class_logits: Tensor, mask_logits: Tensor) -> None:
    checks.check_floating(_OP, class_logits=class_logits, mask_logits=mask_logits)
    checks.check_same_device(_OP, class_logits=class_logits, mask_logits=mask_logits)
    if mask_logits.dim() < 4:
        raise ValueError(f"{_OP}: mask_logits must be (..., B, Q, h, w), got {checks.shape(mask_logits)}")
    if class_logits.shape[:-1] != mask_logits.shape[:-2] or class_logits.shape[-1] < 2:
        raise ValueError(
            f"{_OP}: class_logits must be (..., B, Q, K + 1) with (..., B, Q) = {tuple(mask_logits.shape[:-2])}, "
            f"as mask_logits, and K >= 1, got {checks.shape(class_logits)}"
        )
