"""The matching cost over sampled points from mask embeddings, so that no mask logits are kept."""

import math

import torch
from torch import Tensor

from maskformer_ext.ops.mask_dot import check_embeddings
from maskformer_ext.ops.support import checks, value_checks
from maskformer_ext.ops.support.library import allow_tf32, native, register, without_autocast
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

_OP = "point_matching_cost_from_embeddings"


def point_matching_cost_from_embeddings(
    class_logits: Tensor,
    mask_embed: Tensor,
    mask_features: Tensor,
    targets: SegmentTargets | MaskTargets,
    points: Tensor,
    *,
    class_weight: float = 2.0,
    mask_weight: float = 5.0,
    dice_weight: float = 5.0,
    sampling: str = "bilinear",
) -> Tensor:
    """Compute ``point_matching_cost`` of the mask logits ``mask_dot(mask_embed, mask_features)``, never forming them.

    Sampling is linear, so the features are sampled at the points and then multiplied.

    Args:
        class_logits: (..., B, Q, K + 1) floating, the last column "no object"; leading dimensions are decoder layers.
        mask_embed: (..., B, Q, C) floating.
        mask_features: (B, C, h, w) floating, sampled bilinearly with zeros outside.
        targets: the segments of the B images, of any size (H, W).
        points: (..., B, P, 2) floating, x and y in [0, 1]: the points of all queries and segments of an image.
        class_weight: factor of the class cost.
        mask_weight: factor of the cross-entropy.
        dice_weight: factor of the dice cost.
        sampling: "bilinear" or "nearest", how targets are sampled.

    Returns:
        (..., B, Q, T) float32, as ``point_matching_cost``. No gradient.

    Raises:
        TypeError: an input is not floating, or an option is of another type.
        ValueError: shapes or devices do not fit, or an option is out of range.
        ValueError: a label or segment id is out of range (on a GPU such segments are void unless
            `MASKFORMER_EXT_CHECKS=1`).

    Source: Mask2Former (arXiv 2112.01527), section 3.3: matching over sampled points.
    """
    _check_predictions(class_logits, mask_embed, mask_features)
    options = PointCostOptions(class_weight, mask_weight, dice_weight, sampling)
    leading, size = tuple(mask_embed.shape[:-2]), (mask_features.shape[-2], mask_features.shape[-1])
    check_inputs(_OP, class_logits, targets, points, options, leading, size)
    predictions = (class_logits.detach(), mask_embed.detach(), mask_features.detach())
    if native(_OP, *predictions, points):
        return call_kernel(_OP, predictions, targets, points.detach(), options, allow_tf32(mask_embed))
    return point_matching_cost_from_embeddings_reference(*predictions, targets, points.detach(), options)


register(_OP, fake=lambda class_logits, embed, features, *rest: fake_cost(class_logits, *rest))


def point_matching_cost_from_embeddings_reference(
    class_logits: Tensor,
    mask_embed: Tensor,
    mask_features: Tensor,
    targets: SegmentTargets | MaskTargets,
    points: Tensor,
    options: PointCostOptions,
) -> Tensor:
    """Compute the cost in plain PyTorch, one layer at a time; arguments are those of the op, checked."""
    if value_checks.may_read(class_logits.device):
        check_values(_OP, class_logits.shape[-1] - 1, targets)
    double = torch.float64 in (class_logits.dtype, mask_embed.dtype, mask_features.dtype, points.dtype)
    dtype = torch.float64 if double else torch.float32
    layers = class_logits.shape[:-3]
    depth = math.prod(layers)  # -1 would be ambiguous without elements
    classes, embeds, places = (x.reshape(depth, *x.shape[-3:]) for x in (class_logits, mask_embed, points))
    costs = []
    with torch.no_grad(), without_autocast(class_logits):
        for layer_classes, embed, place in zip(classes, embeds, places, strict=True):
            logits = embed.to(dtype) @ sample_planes(mask_features.to(dtype), place.to(dtype))
            costs.append(cost_reference(layer_classes, logits, targets, place, options))
    if not costs:
        return class_logits.new_empty((*class_logits.shape[:-1], targets.labels.shape[1]), dtype=dtype)
    return torch.stack(costs).reshape(*layers, *costs[0].shape) if layers else costs[0]


def _check_predictions(class_logits: Tensor, mask_embed: Tensor, mask_features: Tensor) -> None:
    checks.check_floating(_OP, class_logits=class_logits)
    check_embeddings(_OP, mask_embed, mask_features)
    checks.check_same_device(_OP, class_logits=class_logits, mask_embed=mask_embed)
    if class_logits.shape[:-1] != mask_embed.shape[:-1] or class_logits.shape[-1] < 2:
        raise ValueError(
            f"{_OP}: class_logits must be (..., B, Q, K + 1) with (..., B, Q) = {tuple(mask_embed.shape[:-1])}, "
            f"as mask_embed, and K >= 1, got {checks.shape(class_logits)}"
        )
