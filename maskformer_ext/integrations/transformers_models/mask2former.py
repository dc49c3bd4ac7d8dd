"""Mask2Former of transformers: what is replaced in a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models.layers import AuxiliaryLogits, MaskLogits
from maskformer_ext.integrations.transformers_models.mask2former_decoder import Decoder, DecoderLayer
from maskformer_ext.integrations.transformers_models.parts import Part
from maskformer_ext.integrations.transformers_models.point_loss import PointLoss, PointMatcher
from maskformer_ext.modeling.outputs import MaskFormerOutput


class Model(nn.Module):
    """Before ``Mask2FormerForUniversalSegmentation``: mask logits of inner layers on demand."""

    def get_auxiliary_logits(self, classes: Any, output_masks: Any) -> Any:
        """Return the predictions of the inner layers; the mask logits of each are formed when it is read."""
        if not isinstance(output_masks, MaskLogits):
            original: Any = super()
            return original.get_auxiliary_logits(classes, output_masks)
        embeddings = torch.stack(output_masks.mask_embed)
        return AuxiliaryLogits(MaskFormerOutput(torch.stack(classes), embeddings, output_masks.mask_features))


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

DECODER_BY = "attention_mask on features resized once per level, mask logits on demand"
LAYER_BY = "scaled_dot_product_attention with boolean masks shared by the heads"
AUXILIARY_BY = "mask logits of inner layers on demand"

MODEL_PARTS = (
    Part(("Mask2FormerForUniversalSegmentation",), Model, AUXILIARY_BY, ("criterion", "get_auxiliary_logits")),
    Part(
        ("Mask2FormerMaskedAttentionDecoder",),
        Decoder,
        DECODER_BY,
        ("layers", "layernorm", "mask_predictor", "layerdrop", "num_feature_levels"),
    ),
    Part(
        ("Mask2FormerMaskedAttentionDecoderLayer",),
        DecoderLayer,
        LAYER_BY,
        (
            *("cross_attn", "self_attn", "fc1", "fc2", "activation_fn", "dropout", "activation_dropout"),
            *("cross_attn_layer_norm", "self_attn_layer_norm", "final_layer_norm"),
        ),
    ),
    Part(("Mask2FormerLoss",), Loss, LOSS_BY, LOSS_NEEDS),
    Part(("Mask2FormerHungarianMatcher",), PointMatcher, MATCHER_BY, MATCHER_NEEDS),
)
