"""Hugging Face transformers' MaskFormer on our ops, in one line: ``accelerate(model, processor)``."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from maskformer_ext.errors import UserError

if TYPE_CHECKING:
    from transformers import MaskFormerForInstanceSegmentation


def accelerate(model: MaskFormerForInstanceSegmentation | None, processor: Any = None) -> Any:
    """Replace what is slow in these instances. Their arguments and results stay the same.

    The model gets another criterion, matcher and ``get_logits``. Mask logits of inner decoder layers are then formed
    for matched pairs only, or when an entry of ``auxiliary_logits`` is read. ``mask_labels`` may also be segment maps:
    for each image an integer (H, W) tensor that indexes ``class_labels``, with -1 = void.

    The processor gets other ``post_process_*_segmentation`` methods. Weights, ``state_dict`` and ``config`` are left
    alone, so the model is saved, loaded and trained as before.

    Args:
        model: a ``MaskFormerForInstanceSegmentation``, or None for the processor alone.
        processor: a MaskFormer image processor.

    Returns:
        The model.

    Raises:
        UserError: if transformers is not installed, or model or processor is of another class.
    """
    if model is not None:
        _maskformer().replace_in_model(model)
    if processor is not None:
        _maskformer().replace_in_processor(processor)
    return model


def restore(model: MaskFormerForInstanceSegmentation | None, processor: Any = None) -> Any:
    """Undo `accelerate`; arguments and result are the same."""
    if model is not None:
        _maskformer().restore_model(model)
    if processor is not None:
        _maskformer().restore_processor(processor)
    return model


def _maskformer() -> ModuleType:
    """Import what needs transformers; importing this module does not."""
    try:
        from maskformer_ext.integrations.transformers_models import maskformer
    except ImportError as error:
        raise UserError(f"accelerate needs transformers (pip install transformers): {error}") from None
    return maskformer
