"""MaskFormer of transformers: what is replaced in a model and in an image processor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.errors import UserError
from maskformer_ext.integrations.transformers_models import maskformer_postprocess
from maskformer_ext.integrations.transformers_models.maskformer_loss import AuxiliaryLogits, Loss, Matcher
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


class Processor:
    """Before the image processors of MaskFormer."""

    post_process_semantic_segmentation = maskformer_postprocess.post_process_semantic_segmentation
    post_process_panoptic_segmentation = maskformer_postprocess.post_process_panoptic_segmentation
    post_process_instance_segmentation = maskformer_postprocess.post_process_instance_segmentation


class ProcessorWithoutScores:
    """The same in versions whose semantic post-processing returns labels only."""

    post_process_semantic_segmentation = maskformer_postprocess.post_process_labels
    post_process_panoptic_segmentation = maskformer_postprocess.post_process_panoptic_segmentation
    post_process_instance_segmentation = maskformer_postprocess.post_process_instance_segmentation


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
PROCESSOR_PARTS = tuple(
    Part(
        ("MaskFormerImageProcessor", "MaskFormerImageProcessorPil", "MaskFormerImageProcessorFast"),
        mixin,
        "semantic_inference, panoptic_inference, instances painted at the prediction's size",
    )
    for mixin in (Processor, ProcessorWithoutScores)
)
