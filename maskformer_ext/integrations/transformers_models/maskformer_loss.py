"""transformers' MaskFormer loss and matcher, on our ops: the same arguments and results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models.layers import (
    AuxiliaryLogits,
    count_masks,
    sorted_pairs,
    with_spare_class,
)
from maskformer_ext.integrations.transformers_models.targets import Targets, image_class_labels, make_targets
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.matcher import HungarianMatcher
from maskformer_ext.modeling.outputs import DenseOutput, MaskFormerOutput
from maskformer_ext.ops.linear_sum_assignment import linear_sum_assignment
from maskformer_ext.ops.matching_cost import matching_cost

_NAMES = {"loss_mask": "loss_mask", "loss_dice": "loss_dice", "loss_ce": "loss_cross_entropy"}


class Matcher(nn.Module):
    """Before transformers' matcher: all images and segments in two calls instead of a loop over scipy."""

    cost_class: float
    cost_mask: float
    cost_dice: float

    @property
    def options(self) -> dict[str, Any]:
        """The weights, under the names of ``matching_cost``."""
        return {"class_weight": self.cost_class, "focal_weight": self.cost_mask, "dice_weight": self.cost_dice}

    @torch.no_grad()
    def forward(
        self, masks_queries_logits: Tensor, class_queries_logits: Tensor, mask_labels: Any, class_labels: Any
    ) -> list[Any]:
        """Match; arguments and result as in transformers, with the forms of ``mask_labels`` of `make_targets` too."""
        targets = make_targets(mask_labels, class_labels)
        if targets is None:
            return super().forward(masks_queries_logits, class_queries_logits, mask_labels, class_labels)
        classes = with_spare_class(class_queries_logits)
        cost = matching_cost(classes, masks_queries_logits, targets, **self.options)
        return [sorted_pairs(row) for row in linear_sum_assignment(cost, targets.num_segments).cpu()]


class Loss(nn.Module):
    """Before transformers' loss: all layers and images in one call, mask logits of matched pairs only.

    Labels that our targets cannot express (images of different sizes, soft masks) go through the original.
    """

    matcher: Any
    num_labels: int
    empty_weight: Tensor

    def forward(
        self,
        masks_queries_logits: Tensor,
        class_queries_logits: Tensor,
        mask_labels: Any,
        class_labels: Any,
        auxiliary_predictions: Any = None,
    ) -> dict[str, Tensor]:
        """Compute the losses; arguments and result as in transformers, unweighted."""
        targets = make_targets(mask_labels, class_labels)
        if targets is None:
            return super().forward(
                masks_queries_logits, class_queries_logits, mask_labels, class_labels, auxiliary_predictions
            )
        labels: Any = image_class_labels(mask_labels, class_labels)
        layers = 1 + len(auxiliary_predictions or ())
        num_masks = count_masks(self, labels, class_queries_logits.device, layers)
        if isinstance(auxiliary_predictions, AuxiliaryLogits):
            return self._layers(auxiliary_predictions.prediction, targets, num_masks)
        losses = self._dense(masks_queries_logits, class_queries_logits, targets, num_masks)
        for index, layer in enumerate(auxiliary_predictions or ()):
            inner = self._dense(layer["masks_queries_logits"], layer["class_queries_logits"], targets, num_masks)
            losses.update({f"{name}_{index}": value for name, value in inner.items()})
        return losses

    def _dense(self, masks: Tensor, classes: Tensor, targets: Targets, num_masks: Tensor) -> dict[str, Tensor]:
        return self._layers(DenseOutput(classes[None], masks[None]), targets, num_masks)

    def _layers(
        self, prediction: MaskFormerOutput | DenseOutput, targets: Targets, num_masks: Tensor
    ) -> dict[str, Tensor]:
        _, losses, _ = _Criterion(self)(prediction, targets, num_masks)
        # clones: transformers weights them in place, and they are rows of one tensor
        return {_original_name(name): loss.clone() for name, loss in losses.items()}


class _LayersMatcher(HungarianMatcher):
    """Ours, for labels that may be "no object"."""

    def forward(self, out: MaskFormerOutput | DenseOutput, targets: Targets) -> Tensor:
        return super().forward(replace(out, class_logits=with_spare_class(out.class_logits)), targets)


class _Criterion(MaskFormerCriterion):
    """Ours, with the class weights of a transformers loss and the weights of its matcher."""

    def __init__(self, loss: Loss) -> None:
        super().__init__(loss.num_labels)
        self.label_limit = loss.num_labels + 1  # "no object" may be a label
        self.matcher = _LayersMatcher(
            class_weight=loss.matcher.cost_class,
            mask_weight=loss.matcher.cost_mask,
            dice_weight=loss.matcher.cost_dice,
        )
        self.empty_weight = loss.empty_weight

    def class_loss_weight(self, target: Tensor) -> Tensor:
        return self.empty_weight[target]


def _original_name(name: str) -> str:
    stem, _, layer = name.rpartition("_")
    return f"{_NAMES[stem]}_{layer}" if layer.isdigit() else _NAMES[name]
