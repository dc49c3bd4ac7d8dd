"""MaskFormer of transformers: what is replaced in a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.errors import UserError
from maskformer_ext.integrations.transformers_models.layers import AuxiliaryLogits
from maskformer_ext.integrations.transformers_models.maskformer_loss import Loss, Matcher
from maskformer_ext.integrations.transformers_models.parts import Part
from maskformer_ext.modeling.outputs import MaskFormerOutput


class Model(nn.Module):
    """Before ``MaskFormerForInstanceSegmentation``: mask logits of inner layers on demand."""

    config: Any
    class_predictor: nn.Module
    mask_embedder: nn.Module

    def get_logits(self, outputs: Any) -> tuple[Tensor, Tensor, AuxiliaryLogits]:
        """Return class and mask logits of the last layer, and those of the inner ones on demand."""
        queries = outputs.transformer_decoder_last_hidden_state[None]
        if self.config.use_auxiliary_loss:
            if outputs.transformer_decoder_hidden_states is None:
                raise UserError(
                    "use_auxiliary_loss needs the hidden states of the decoder: call the model with "
                    "output_hidden_states=True, or set model.config.output_hidden_states = True"
                )
            queries = torch.stack(outputs.transformer_decoder_hidden_states)
        prediction = MaskFormerOutput(
            self.class_predictor(queries), self.mask_embedder(queries), outputs.pixel_decoder_last_hidden_state
        )
        return prediction.class_logits[-1], prediction.mask_logits(), AuxiliaryLogits(prediction)


MODEL_PARTS = (
    Part(
        ("MaskFormerForInstanceSegmentation",),
        Model,
        "mask logits of inner layers on demand",
        needs=("class_predictor", "mask_embedder"),
    ),
    Part(
        ("MaskFormerLoss",),
        Loss,
        "all layers and images in one call: matching_cost_from_embeddings, linear_sum_assignment, matched_mask_loss",
        needs=("matcher", "num_labels", "empty_weight"),
    ),
    Part(
        ("MaskFormerHungarianMatcher",),
        Matcher,
        "matching_cost, linear_sum_assignment",
        needs=("cost_class", "cost_mask", "cost_dice"),
    ),
)
