"""Hugging Face transformers' MaskFormer on our ops, in one line: ``accelerate(model, processor)``."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

import torch

from maskformer_ext.errors import UserError
from maskformer_ext.modeling.outputs import MaskFormerOutput

if TYPE_CHECKING:
    from transformers import MaskFormerForInstanceSegmentation

_MARK = "_maskformer_ext_original"
_METHODS = (
    "post_process_semantic_segmentation",
    "post_process_panoptic_segmentation",
    "post_process_instance_segmentation",
)


def accelerate(model: MaskFormerForInstanceSegmentation | None, processor: Any = None) -> Any:
    """Replace what is slow in these instances; their arguments and results stay the same.

    The model gets another criterion, matcher and ``get_logits``: mask logits of inner decoder layers are formed for
    matched pairs only, or when an entry of ``auxiliary_logits`` is looked at. ``mask_labels`` may then also be segment
    maps: an integer (H, W) tensor an image that indexes ``class_labels``, -1 = void. The processor gets other
    ``post_process_*_segmentation`` methods. Weights, ``state_dict`` and ``config`` are left alone, so the model is
    saved, loaded and trained as before.

    Args:
        model: a ``MaskFormerForInstanceSegmentation``, or None for the processor alone.
        processor: a MaskFormer image processor.

    Returns:
        The model.

    Raises:
        UserError: if transformers is not installed, or model or processor is of another class.
    """
    if model is not None:
        _require_model(model)
        if _MARK not in model.__dict__:
            _accelerate_model(model)
    if processor is not None:
        _require_processor(processor)
        from maskformer_ext.integrations import _transformers_postprocess as replacement

        for name in _METHODS:
            setattr(processor, name, MethodType(getattr(replacement, name), processor))
    return model


def restore(model: MaskFormerForInstanceSegmentation | None, processor: Any = None) -> Any:
    """Undo `accelerate`; arguments and result are the same."""
    if model is not None and _MARK in model.__dict__:
        (model.criterion, model.matcher) = model.__dict__.pop(_MARK)
        del model.__dict__["get_logits"]
    for name in _METHODS if processor is not None else ():
        processor.__dict__.pop(name, None)
    return model


def _accelerate_model(model: MaskFormerForInstanceSegmentation) -> None:
    from maskformer_ext.integrations._transformers_loss import Loss

    original = (model.criterion, model.matcher)
    loss = Loss(model.criterion)
    model.criterion, model.matcher = loss, loss.matcher
    model.__dict__[_MARK] = original  # not by setattr: the originals are no parts of the model any more
    model.__dict__["get_logits"] = MethodType(_get_logits, model)


def _get_logits(self, outputs) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Return class and mask logits of the last layer, and those of the inner ones on demand."""
    from maskformer_ext.integrations._transformers_loss import AuxiliaryLogits

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


def _require_model(model: Any) -> None:
    try:
        from transformers import MaskFormerForInstanceSegmentation
    except ImportError as error:
        raise UserError(f"accelerate needs transformers (pip install transformers): {error}") from None
    if not isinstance(model, MaskFormerForInstanceSegmentation):
        raise UserError(
            f"accelerate: model must be a transformers MaskFormerForInstanceSegmentation, got {type(model).__name__}"
        )


def _require_processor(processor: Any) -> None:
    from transformers.models.maskformer import image_processing_maskformer, image_processing_pil_maskformer

    classes = (
        image_processing_maskformer.MaskFormerImageProcessor,
        image_processing_pil_maskformer.MaskFormerImageProcessorPil,
    )
    if not isinstance(processor, classes):
        raise UserError(
            f"accelerate: processor must be a transformers MaskFormerImageProcessor, got {type(processor).__name__}"
        )
