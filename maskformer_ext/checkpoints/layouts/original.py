"""Weights under the names of the original implementation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from maskformer_ext.checkpoints.files.tensors import check_kind, check_tensor
from maskformer_ext.checkpoints.layouts.recognition import bare_names, layout_of
from maskformer_ext.errors import UserError

HEAD = "sem_seg_head."
PIXEL_DECODER = HEAD + "pixel_decoder."
PREDICTOR = HEAD + "predictor."

# Names here -> names of the original. Every rule that fits the start of a name is applied, in this order.
_RULES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"backbone\.norms\.(\d)\.", r"backbone.norm\1."),
    (r"pixel_decoder\.fpn\.", r"pixel_decoder."),
    (r"pixel_decoder\.encoder\.", r"pixel_decoder.transformer.encoder."),
    (r"pixel_decoder\.adapters\.(\d)", lambda match: f"pixel_decoder.adapter_{int(match[1]) + 1}"),
    (r"pixel_decoder\.layers\.(\d)", lambda match: f"pixel_decoder.layer_{int(match[1]) + 1}"),
    (r"pixel_decoder\.", PIXEL_DECODER),
    (r"transformer_decoder\.(layers|norm)\.", PREDICTOR + r"transformer.decoder.\1."),
    (r"transformer_decoder\.", PREDICTOR),
    (r"class_head\.", PREDICTOR + "class_embed."),
    (r"mask_head\.", PREDICTOR + "mask_embed."),
    (r"classifier\.", PREDICTOR),
]
_COMPILED = [(re.compile(pattern), replacement) for pattern, replacement in _RULES]
# What a state dict may hold beyond the weights: both follow from the configuration.
_DERIVED = re.compile(r"criterion\.|.*\.relative_position_index$")


def original_name(name: str) -> str:
    """Return what the original calls the parameter or buffer that is called ``name`` here."""
    for pattern, replacement in _COMPILED:
        match = pattern.match(name)
        if match:
            name = (replacement(match) if callable(replacement) else match.expand(replacement)) + name[match.end() :]
    if name.startswith(HEAD):
        name = name.replace(".cross_attn.", ".multihead_attn.").replace(".feed_forward.", ".")
    return name


def load_original(model: nn.Module, state_dict: Mapping[str, Tensor], *, source: str = "checkpoint") -> None:
    """Load weights of the original implementation, or under this package's own names.

    What wrappers put before the names is taken off. ``criterion.*`` and ``relative_position_index`` may be there or
    not. Names of its first version, which lacked ``pixel_decoder.``, are understood as well.

    Args:
        model: a model of the same configuration.
        state_dict: tensors under the original's names.
        source: what errors call them.

    Raises:
        UserError: if a weight is missing, left over, or of another shape; nothing has been changed then.
        TypeError: if ``state_dict`` maps no names.
    """
    if not isinstance(state_dict, Mapping) or not all(isinstance(name, str) for name in state_dict):
        raise TypeError(f"load_original: state_dict must map names to tensors, got {type(state_dict).__name__}")
    model.load_state_dict(fit_original(model, to_original(state_dict, source), source))


def fit_original(model: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return weights under a model's own names, after checking that each has its place.

    Args:
        model: may be on the meta device.
        state_dict: tensors under the original's names.
        source: what errors call them.

    Raises:
        UserError: as `load_original`.
    """
    given = {name: value for name, value in state_dict.items() if not _DERIVED.match(name)}
    loaded = {}
    for name, target in model.state_dict().items():
        theirs = original_name(name)
        value = given.pop(theirs, None)
        if value is None:
            raise UserError(f"{source}: {theirs} is missing; it is {tuple(target.shape)} in this model")
        if value.shape != target.shape:
            raise UserError(f"{source}: {theirs} must be {tuple(target.shape)}, got {tuple(value.shape)}")
        check_kind(theirs, value, target, source)
        loaded[name] = value
    if given:
        raise UserError(f"{source}: {next(iter(given))} has no place in this model ({len(given)} such weights)")
    return loaded


def to_original(state_dict: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Bring names to those of the original's second version: from its first, from this package's, out of wrappers.

    Args:
        state_dict: tensors by name.
        source: what errors call them.

    Raises:
        UserError: if an entry is no dense tensor, or there are several networks.
    """
    try:
        weights = bare_names({name: check_tensor(name, value, source) for name, value in state_dict.items()})
    except UserError as error:
        raise UserError(f"{source}: {str(error).removeprefix('checkpoint: ').removeprefix(f'{source}: ')}") from None
    if layout_of(weights) == "native":
        return {original_name(name): value for name, value in weights.items()}
    return with_pixel_decoder(weights)


def with_pixel_decoder(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring the first version's names to the second's; told apart by names, since version metadata is often lost."""
    if any(name.startswith(PIXEL_DECODER) for name in state_dict):
        return dict(state_dict)
    old = re.compile(re.escape(HEAD) + r"(?!predictor\.)")
    return {old.sub(PIXEL_DECODER, name): value for name, value in state_dict.items()}
