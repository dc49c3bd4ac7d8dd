"""Mask2Former of transformers: what is replaced in a model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from maskformer_ext.integrations.transformers_models.parts import Part
from maskformer_ext.integrations.transformers_models.point_loss import PointLoss, PointMatcher


class Loss(PointLoss):
    """Before ``Mask2FormerLoss``: all layers and images in one call, mask logits of matched pairs only.

    Labels that our targets cannot express (images of different sizes, soft masks) go through the original.
    """

    def forward(
        self,
        masks_queries_logits: Tensor,
        class_queries_logits: Tensor,
        mask_labels: Any,
        class_labels: Any,
        auxiliary_predictions: Any = None,
    ) -> dict[str, Tensor]:
        """Compute the losses; arguments and result as in transformers, unweighted."""
        arguments = masks_queries_logits, class_queries_logits, mask_labels, class_labels, auxiliary_predictions
        losses = self.all_layers(*arguments)
        return super().forward(*arguments) if losses is None else losses


LOSS_BY = (
    "all layers and images in one call: point_matching_cost_from_embeddings, linear_sum_assignment, uncertain_points, "
    "point_mask_loss"
)
MATCHER_BY = "point_matching_cost, linear_sum_assignment"
LOSS_NEEDS = ("matcher", "empty_weight", "num_points", "oversample_ratio", "importance_sample_ratio", "get_num_masks")
MATCHER_NEEDS = ("cost_class", "cost_mask", "cost_dice", "num_points")

MODEL_PARTS = (
    Part(("Mask2FormerLoss",), Loss, LOSS_BY, LOSS_NEEDS),
    Part(("Mask2FormerHungarianMatcher",), PointMatcher, MATCHER_BY, MATCHER_NEEDS),
)
