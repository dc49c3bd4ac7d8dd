"""MaskFormer of transformers: what is replaced in a model and in an image processor, and how it is undone."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from transformers import MaskFormerForInstanceSegmentation

from maskformer_ext.errors import UserError
from maskformer_ext.integrations.transformers_models import maskformer_postprocess
from maskformer_ext.integrations.transformers_models.maskformer_loss import AuxiliaryLogits, Loss
from maskformer_ext.modeling.outputs import MaskFormerOutput

_MARK = "_maskformer_ext_original"
_METHODS = (
    "post_process_semantic_segmentation",
    "post_process_panoptic_segmentation",
    "post_process_instance_segmentation",
)


def replace_in_model(model: Any) -> None:
    """Put our criterion, matcher and ``get_logits`` into a model; one that has them already stays as it is.

    Raises:
        UserError: if the model is of another class.
    """
    if not isinstance(model, MaskFormerForInstanceSegmentation):
        raise UserError(
            f"accelerate: model must be a transformers MaskFormerForInstanceSegmentation, got {type(model).__name__}"
        )
    if _MARK in model.__dict__:
        return
    original = (model.criterion, model.matcher)
    loss = Loss(model.criterion)
    model.criterion, model.matcher = loss, loss.matcher
    model.__dict__[_MARK] = original  # not by setattr: the originals are no parts of the model any more
    model.__dict__["get_logits"] = MethodType(_get_logits, model)


def restore_model(model: Any) -> None:
    """Undo `replace_in_model`."""
    if _MARK in model.__dict__:
        model.criterion, model.matcher = model.__dict__.pop(_MARK)
        del model.__dict__["get_logits"]


def replace_in_processor(processor: Any) -> None:
    """Put our post-processing into an image processor.

    Raises:
        UserError: if the processor is of another class.
    """
    # Not every version of transformers has both, and who accelerates a model alone needs neither.
    from transformers.models.maskformer.image_processing_maskformer import MaskFormerImageProcessor
    from transformers.models.maskformer.image_processing_pil_maskformer import MaskFormerImageProcessorPil

    if not isinstance(processor, MaskFormerImageProcessor | MaskFormerImageProcessorPil):
        raise UserError(
            f"accelerate: processor must be a transformers MaskFormerImageProcessor, got {type(processor).__name__}"
        )
    for name in _METHODS:
        setattr(processor, name, MethodType(getattr(maskformer_postprocess, name), processor))


def restore_processor(processor: Any) -> None:
    """Undo `replace_in_processor`."""
    for name in _METHODS:
        processor.__dict__.pop(name, None)


def _get_logits(self: Any, outputs: Any) -> tuple[Tensor, Tensor, AuxiliaryLogits]:
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
