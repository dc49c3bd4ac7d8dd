"""OneFormer of transformers: what is replaced in a model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from maskformer_ext.integrations.transformers_models import mask2former
from maskformer_ext.integrations.transformers_models.oneformer_decoder import (
    CrossAttention,
    Decoder,
    DecoderLayer,
    QueryLayer,
)
from maskformer_ext.integrations.transformers_models.parts import Part
from maskformer_ext.integrations.transformers_models.point_loss import PointLoss, PointMatcher


class Loss(PointLoss):
    """Before ``OneFormerLoss``: all layers and images in one call, mask logits of matched pairs only.

    Labels that our targets cannot express (images of different sizes, soft masks) go through the original.
    """

    loss_contrastive: Any

    def forward(
        self,
        masks_queries_logits: Tensor,
        class_queries_logits: Tensor,
        contrastive_queries_logits: Any,
        mask_labels: Any,
        class_labels: Any,
        text_queries: Any,
        auxiliary_predictions: Any = None,
        calculate_contrastive_loss: bool = True,
    ) -> dict[str, Tensor]:
        """Compute the losses; arguments and result as in transformers, unweighted."""
        logits, labels = (masks_queries_logits, class_queries_logits), (mask_labels, class_labels)
        losses = self.all_layers(*logits, *labels, auxiliary_predictions)
        if losses is None:
            contrast = text_queries, auxiliary_predictions, calculate_contrastive_loss
            return super().forward(*logits, contrastive_queries_logits, *labels, *contrast)
        if calculate_contrastive_loss:
            # where transformers has it: after the losses of the last layer, before those of the inner ones
            names = list(losses)
            contrastive = self.loss_contrastive(contrastive_queries_logits, text_queries)
            losses = {name: losses[name] for name in names[:3]} | contrastive | losses
        return losses


MODEL_PARTS = (
    Part(
        ("OneFormerTransformerDecoder",),
        Decoder,
        mask2former.DECODER_BY,
        (
            *("use_task_norm", "use_auxiliary_loss", "num_feature_levels", "layers", "decoder_norm"),
            *("query_transformer", "query_input_projection", "class_embed", "mask_embed"),
        ),
    ),
    Part(
        ("OneFormerTransformerDecoderLayer",),
        DecoderLayer,
        "boolean masks shared by the heads",
        ("cross_attn", "self_attn", "ffn", "num_feature_levels"),
    ),
    Part(
        ("OneFormerTransformerDecoderCrossAttentionLayer",),
        CrossAttention,
        "scaled_dot_product_attention with boolean masks shared by the heads",
        ("multihead_attn", "norm", "dropout"),
    ),
    Part(
        ("OneFormerTransformerDecoderQueryTransformerDecoderLayer",),
        QueryLayer,
        "scaled_dot_product_attention",
        (
            *("self_attn", "multihead_attn", "linear1", "linear2", "activation", "norm1", "norm2", "norm3"),
            *("dropout", "dropout1", "dropout2", "dropout3"),
        ),
    ),
    Part(("OneFormerLoss",), Loss, mask2former.LOSS_BY, mask2former.LOSS_NEEDS),
    Part(("OneFormerHungarianMatcher",), PointMatcher, mask2former.MATCHER_BY, mask2former.MATCHER_NEEDS),
)
