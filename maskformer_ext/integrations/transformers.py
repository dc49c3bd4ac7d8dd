"""Models of Hugging Face transformers on our ops, in one line: ``accelerate(model, processor)``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

from maskformer_ext.errors import UserError
from maskformer_ext.integrations.transformers_models import (
    deformable_attention,
    detr,
    detr_segmentation,
    eomt,
    lightly_train,
    mask2former,
    maskformer,
    oneformer,
    pixel_decoder_layer,
    processors,
    swin,
)
from maskformer_ext.integrations.transformers_models.parts import (
    Part,
    Replacement,
    find,
    is_swapped,
    swap,
    swap_back,
)
from maskformer_ext.integrations.transformers_models.refusals import is_processor, never_fits, refusal

Model = TypeVar("Model")

_MODEL_PARTS: tuple[Part, ...] = (
    *maskformer.MODEL_PARTS,
    *detr.MODEL_PARTS,
    *deformable_attention.MODEL_PARTS,
    *pixel_decoder_layer.MODEL_PARTS,
    *swin.MODEL_PARTS,
    *mask2former.MODEL_PARTS,
    *oneformer.MODEL_PARTS,
    *eomt.MODEL_PARTS,
    *lightly_train.MODEL_PARTS,
    *detr_segmentation.MODEL_PARTS,
)
_PROCESSOR_PARTS: tuple[Part, ...] = (*processors.PROCESSOR_PARTS,)


def accelerate(model: Model, processor: Any = None, *, verbose: bool = True) -> Model:
    """Replace what is slow in these instances. Their arguments and results stay the same.

    A part that looks different from the versions of transformers that are known here stays as it is. `describe` lists
    what was replaced and what was left. Weights, ``state_dict`` and ``config`` are not touched, so the model is saved,
    loaded, trained and compiled as before.

    ``mask_labels`` may also be segment maps: for each image an integer (H, W) tensor that indexes ``class_labels``,
    with -1 = void. `auxiliary_logits` forms the mask logits of an inner layer when an entry is read.

    Args:
        model: a model of transformers, a module that contains such, or None for the processor alone.
        processor: an image processor of transformers, or None.
        verbose: print one line on standard error that names what was replaced.

    Returns:
        The model.

    Raises:
        UserError: if nothing in the model, or nothing of the processor, is known here. Then nothing was replaced. A
            processor of transformers that comes with a known model may have nothing to replace.
    """
    if model is None and processor is None:
        raise UserError("accelerate: a model or a processor must be given, got None for both")
    places = _places("accelerate", model, processor)
    for argument, root, parts, others in _arguments(model, processor):
        if places[argument]:
            continue
        if argument == "model" or not (places.get("model") and is_processor(root)):
            raise refusal("accelerate", argument, root, parts, others)
        if verbose:
            print(f"accelerate leaves {type(root).__name__} as it is, it makes no masks", file=sys.stderr)
    for found in places.values():
        replaced = Counter[str]()
        left = []
        for where, instance, part, reason in found:
            if reason:
                left.append(str(Replacement(where, type(instance).__name__, part.by, reason)))
            elif not is_swapped(instance):
                swap(instance, part.mixin)
                replaced[type(instance).__name__] += 1
        if verbose:
            for sentence in _sentences(replaced, left):
                print(sentence, file=sys.stderr)
    return model


def restore(model: Model, processor: Any = None) -> Model:
    """Undo `accelerate`; arguments and result are the same."""
    for found in _places("restore", model, processor).values():
        for _, instance, _, _ in found:
            swap_back(instance)
    return model


def describe(model: Any, processor: Any = None) -> list[Replacement]:
    """List what `accelerate` replaced in a model and a processor, and what it left; print one to read it.

    What is known but was not given to `accelerate` yet is listed as left.
    """
    listed = []
    for found in _places("describe", model, processor).values():
        for where, instance, part, reason in found:
            left = reason or ("" if is_swapped(instance) else "accelerate was not called")
            listed.append(Replacement(where, type(instance).__name__, part.by, left))
    return listed


def _arguments(model: Any, processor: Any) -> Iterator[tuple[str, Any, tuple[Part, ...], tuple[Part, ...]]]:
    """Yield the name and value of each argument that was given, what is known for it, and for the other one."""
    if model is not None:
        yield "model", model, _MODEL_PARTS, _PROCESSOR_PARTS
    if processor is not None:
        yield "processor", processor, _PROCESSOR_PARTS, _MODEL_PARTS


def _places(call: str, model: Any, processor: Any) -> dict[str, list[tuple[str, Any, Part, str]]]:
    """Return what is known in each argument, before anything is changed."""
    places = {}
    for argument, root, parts, others in _arguments(model, processor):
        places[argument] = list(find(root, parts))
        if not places[argument] and never_fits(root, others):
            raise refusal(call, argument, root, parts, others)
    return places


def _sentences(replaced: Counter[str], left: list[str]) -> list[str]:
    names = [name if count == 1 else f"{count} {name}" for name, count in replaced.items()]
    done = [f"accelerate replaced {', '.join(names)}"] if names else []
    return done + [f"accelerate: {sentence}" for sentence in left]
