"""The matching cost from mask embeddings, so that no mask logits are kept."""

import math

import torch
from torch import Tensor

from maskformer_ext.ops.mask_dot import check_embeddings, mask_dot
from maskformer_ext.ops.matching_cost import matching_cost
from maskformer_ext.ops.support import checks
from maskformer_ext.ops.support.library import allow_tf32, native, register
from maskformer_ext.ops.support.matching import CostOptions, call_kernel, check_targets, fake_cost
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets

_OP = "matching_cost_from_embeddings"


def matching_cost_from_embeddings(
    class_logits: Tensor,
    mask_embed: Tensor,
    mask_features: Tensor,
    targets: SegmentTargets | MaskTargets,
    *,
    class_weight: float = 1.0,
    focal_weight: float = 20.0,
    dice_weight: float = 1.0,
    alpha: float = 0.25,
    gamma: float = 2.0,
    ignore_void: bool = False,
) -> Tensor:
    """Compute ``matching_cost`` of the mask logits ``mask_dot(mask_embed, mask_features)`` without keeping them.

    Args:
        class_logits: (..., B, Q, K + 1) floating, the last column "no object"; leading dimensions are decoder layers.
        mask_embed: (..., B, Q, C) floating.
        mask_features: (B, C, h, w) floating.
        targets: the segments of the B images, of any size (H, W).
        class_weight: factor of the class cost.
        focal_weight: factor of the focal cost.
        dice_weight: factor of the dice cost.
        alpha: weight of positive pixels in the focal cost, 1 - alpha that of negative ones; negative: no weights.
        gamma: exponent of the focal cost.
        ignore_void: leave void pixels out of focal and dice.

    Returns:
        (..., B, Q, T) float32, as ``matching_cost``. No gradient.

    Raises:
        TypeError: an input is not floating, or an option is of another type.
        ValueError: shapes or devices do not fit, or an option is out of range.
        ValueError: a label or segment id is out of range (on a GPU such segments are void unless
            `MASKFORMER_EXT_CHECKS=1`).

    Source: MaskFormer (arXiv 2107.06278), section 3.3.
    """
    _check_predictions(class_logits, mask_embed, mask_features)
    batch, size = len(mask_features), mask_features.shape[-2:]
    options = CostOptions(class_weight, focal_weight, dice_weight, alpha, gamma, ignore_void)
    check_targets(_OP, class_logits, targets, batch=batch, size=size, options=options)
    class_logits, mask_embed, mask_features = (x.detach() for x in (class_logits, mask_embed, mask_features))
    if native(_OP, class_logits, mask_embed, mask_features):
        predictions = (class_logits, mask_embed, mask_features)
        return call_kernel(_OP, predictions, targets, options, allow_tf32(mask_embed))
    return matching_cost_from_embeddings_reference(class_logits, mask_embed, mask_features, targets, options)


register(_OP, fake=lambda class_logits, embed, features, *rest: fake_cost(class_logits, *rest))


def matching_cost_from_embeddings_reference(
    class_logits: Tensor,
    mask_embed: Tensor,
    mask_features: Tensor,
    targets: SegmentTargets | MaskTargets,
    options: CostOptions,
) -> Tensor:
    """Compute the cost one layer at a time through ``mask_dot`` and ``matching_cost``."""
    float64 = torch.float64 in (class_logits.dtype, mask_embed.dtype, mask_features.dtype)
    dtype = torch.float64 if float64 else torch.float32  # 16-bit logits would lose what the sums keep
    layers = class_logits.shape[:-3]
    depth = math.prod(layers)  # -1 would be ambiguous without elements
    classes, embeds = (tensor.reshape(depth, *tensor.shape[-3:]) for tensor in (class_logits, mask_embed))
    costs = [  # one layer's logits live at a time
        matching_cost(
            layer_classes, mask_dot(layer_embed, mask_features, out_dtype=dtype), targets, **options._asdict()
        )
        for layer_classes, layer_embed in zip(classes, embeds, strict=True)
    ]
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
