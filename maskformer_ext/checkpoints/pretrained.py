"""Whole models from weights in any layout, and back; `models.Pretrained` offers it as methods of the models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from maskformer_ext.checkpoints.files.safetensors_files import read_safetensors, write_safetensors
from maskformer_ext.checkpoints.files.state_dicts import read_state_dict
from maskformer_ext.checkpoints.layouts.inferred_config import infer_model_config
from maskformer_ext.checkpoints.layouts.native import (
    MODEL_FILE,
    check_weights,
    info_from_json,
    write_model_files,
)
from maskformer_ext.checkpoints.layouts.original import fit_original, original_name, to_original
from maskformer_ext.checkpoints.layouts.recognition import bare_names, layout_of
from maskformer_ext.checkpoints.layouts.transformers_config import (
    CONFIG_FILE,
    check_writable,
    named_classes,
    read_transformers_config,
    write_transformers_config,
)
from maskformer_ext.checkpoints.layouts.transformers_names import to_original_names, to_transformers_names
from maskformer_ext.checkpoints.weight_files import find_weights
from maskformer_ext.config import Config, ModelConfig, to_dict
from maskformer_ext.config.load import config_from_dict, load_config
from maskformer_ext.config.values import LAYOUTS
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError, why
from maskformer_ext.files import new_folder
from maskformer_ext.modeling.pixel_level import PixelLevelModule

Build = Callable[[ModelConfig], PixelLevelModule]

# How keys of ours begin in the header of a file under transformers' names.
_HEADER = "maskformer_ext_"

# The weights whose first dimension is the number of classes. A per-pixel baseline "plus" has one query per class.
_HEADS = {
    "maskformer": re.compile(r"class_head\."),
    "per_pixel_baseline": re.compile(r"classifier\."),
    "per_pixel_baseline_plus": re.compile(r"transformer_decoder\.query_(embed|input)\."),
}
# What shapes show, and a recipe must agree with.
_SHAPED = ("architecture", "backbone", "pixel_decoder", "pixel_decoder_dim", "mask_dim", "hidden_dim", "decoder_layers")


@dataclass
class Weights:
    """What a file holds.

    Attributes:
        file: where it lies.
        tensors: by name; this package's names if ``native``, else the original's.
        config: the configuration that belongs to them.
        info: the classes; None: their names are unknown.
        native: whether the names of the tensors are this package's.
        complete: whether this package wrote them, with all of the configuration and the classes.
    """

    file: Path
    tensors: dict[str, Tensor]
    config: Config
    info: DatasetInfo | None
    native: bool
    complete: bool


class Loaded(NamedTuple):
    """A model with its weights, the whole configuration and the classes that came with them."""

    model: PixelLevelModule
    recipe: Config
    classes: DatasetInfo | None


def load_pretrained(
    source: str | Path,
    build: Build,
    *,
    config: str | Config | None = None,
    num_classes: int | None = None,
    reset_head: bool = False,
) -> Loaded:
    """Build the model of any architecture, in evaluation mode.

    Args:
        source: what `find_weights` finds.
        build: makes the network that a configuration describes.
        config: as `models.Pretrained.from_pretrained`, which lists the errors too.
        num_classes: likewise.
        reset_head: likewise.
    """
    given = load_config(config) if isinstance(config, str) else config
    weights = read_weights_of_any_layout(find_weights(source), backbone=given.model.backbone if given else None)
    recipe = _with_recipe(weights, given)
    found = weights.config.model.num_classes
    wanted = num_classes or recipe.model.num_classes or found
    recipe = replace(recipe, model=replace(recipe.model, num_classes=wanted, backbone_weights=None))
    outline = _outline(build, recipe.model, weights.file)
    if not reset_head and wanted != found:
        raise UserError(_other_classes(outline, weights))
    _fit(outline, weights, reset_head)  # before anything of the sizes that a header names is made
    model = build(recipe.model)
    model.load_state_dict(_fit(model, weights, reset_head))
    return Loaded(model.eval(), recipe, _classes(weights, recipe if config is not None else None, wanted))


def _outline(build: Build, config: ModelConfig, file: Path) -> PixelLevelModule:
    """Build a model without memory for its weights."""
    try:
        with torch.device("meta"):
            return build(config)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    except Exception as error:  # sizes that do not go together: layers raise AssertionError, RuntimeError, ...
        raise UserError(f"{file}: its configuration describes an impossible network: {why(error)}") from error


def _fit(model: PixelLevelModule, weights: Weights, reset_head: bool) -> dict[str, Tensor]:
    """Return the weights under the model's names, after checking that each has its place."""
    tensors = weights.tensors | (_new_head(model, weights) if reset_head else {})
    if not weights.native:
        return fit_original(model, tensors, str(weights.file))
    check_weights(model, tensors, weights.file)
    return tensors


def save_pretrained(
    model: PixelLevelModule,
    folder: str | Path,
    *,
    layout: str,
    config: Config,
    info: DatasetInfo,
    overwrite: bool = False,
) -> Path:
    """Write a model of any architecture; arguments and errors are those of `models.Pretrained.save_pretrained`."""
    if info.num_classes != model.num_classes:
        raise UserError(f"save_pretrained: info must have {model.num_classes} classes, got {info.num_classes}")
    config = replace(config, model=replace(model.config, backbone_weights=None))
    if layout not in LAYOUTS:
        raise UserError(f"save_pretrained: layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if layout == "hf":
        check_writable(config.model)
    with new_folder(folder, overwrite=overwrite) as temporary:
        if layout == "native":
            write_model_files(temporary, model, config, info)
        else:
            header = {"config": json.dumps(to_dict(config)), "dataset": json.dumps(asdict(info))}
            write_safetensors(
                temporary / MODEL_FILE,
                to_transformers_names(_original_weights(model, config)),
                {_HEADER + key: value for key, value in header.items()},
            )
            write_transformers_config(temporary, config, info)
    return Path(folder)


def read_weights_of_any_layout(file: Path, *, backbone: str | None = None) -> Weights:
    """Read a weights' file and what lies beside it; the names of the tensors decide its layout.

    Args:
        file: the weights.
        backbone: a value of ``model.backbone``, for weights under this package's names whose file does not say it.

    Raises:
        UserError: naming the file, if it cannot be read or belongs to a network that is not known here.
    """
    header: dict[str, str] = {}
    if file.suffix == ".safetensors":
        tensors, header = read_safetensors(file)
    else:
        tensors = read_state_dict(file)
    try:
        if {"config", "dataset"} <= header.keys():
            config = _config_from_json(header["config"], file)
            info = info_from_json(header["dataset"], config.model.num_classes)
            config.model.num_classes = info.num_classes
            return Weights(file, tensors, config, info, native=True, complete=True)
        tensors = bare_names(tensors)
        layout = layout_of(tensors)
        if layout != "transformers":
            tensors = to_original(tensors, str(file))
            config = Config(name=file.stem, model=infer_model_config(tensors, backbone if layout == "native" else None))
            return Weights(file, tensors, config, None, native=False, complete=False)
        tensors = to_original_names(tensors)
        config, info = read_transformers_config(file.parent, infer_model_config(tensors))
        complete = {_HEADER + "config", _HEADER + "dataset"} <= header.keys()
        if complete:  # written here: it says more than transformers' files
            config = _config_from_json(header[_HEADER + "config"], file)
            info = info_from_json(header[_HEADER + "dataset"], config.model.num_classes)
            config.model.num_classes = info.num_classes
        return Weights(file, tensors, config, info, native=False, complete=complete)
    except UserError as error:
        raise type(error)(f"{file}: {str(error).removeprefix('checkpoint: ').removeprefix(f'{file}: ')}") from error


def _config_from_json(text: str, file: Path) -> Config:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{file}: the configuration in its header is damaged: {why(error)}") from error
    if not isinstance(values, dict):
        raise UserError(f"{file}: the configuration in its header is damaged: it is a {type(values).__name__}")
    return config_from_dict(values, str(file))


def _classes(weights: Weights, recipe: Config | None, wanted: int | None) -> DatasetInfo | None:
    """Return the names of the classes: those written here, else of the recipe's public data set, else transformers'."""
    from maskformer_ext.data.catalog import known_classes

    of_recipe = known_classes(recipe.data.name, recipe.data.task) if recipe is not None else None
    candidates = [weights.info, of_recipe] if weights.complete else [of_recipe, weights.info]
    return next((info for info in candidates if info is not None and info.num_classes == wanted), None)


def _with_recipe(weights: Weights, recipe: Config | None) -> Config:
    """Return the configuration to build, after comparing it with what the weights tell."""
    if recipe is None:
        return weights.config
    beside = weights.info is not None and (weights.file.parent / CONFIG_FILE).is_file()
    told = ("num_heads",) if weights.complete or beside else ()  # weights fit any number, but work with theirs only
    for key in (*_SHAPED, *told):
        expected, given = getattr(weights.config.model, key), getattr(recipe.model, key)
        if given != expected:
            raise UserError(
                f"{weights.file} belongs to a model with model.{key}={expected}, but the configuration says {given}"
            )
    return recipe


def _new_head(model: PixelLevelModule, weights: Weights) -> dict[str, Tensor]:
    pattern = _HEADS[model.config.architecture]
    name_there = str if weights.native else original_name
    return {name_there(name): value for name, value in model.state_dict().items() if pattern.match(name)}


def _other_classes(model: PixelLevelModule, weights: Weights) -> str:
    name, value = next((key, value) for key, value in _new_head(model, weights).items())
    return (
        f"{weights.file} knows {weights.config.model.num_classes} classes, but the model has {model.num_classes}: "
        f"{name} must be {tuple(value.shape)}, got {tuple(weights.tensors[name].shape)}; give reset_head=true to start "
        "with a new classifier"
    )


def _original_weights(model: nn.Module, config: Config) -> dict[str, Tensor]:
    """Return a model's weights under the original's names, with those that follow from the configuration."""
    weights = {original_name(name): value for name, value in model.state_dict().items()}
    for name, buffer in model.named_buffers():
        if name.endswith(".relative_position_index"):
            weights[original_name(name)] = buffer
    assert config.model.num_classes is not None
    weights["criterion.empty_weight"] = torch.ones(config.model.num_classes + 1)
    weights["criterion.empty_weight"][-1] = config.criterion.no_object_weight
    return weights


def numbered_classes(count: int) -> DatasetInfo:
    """Describe classes of which nothing is known but how many they are."""
    return named_classes("", [f"class {index}" for index in range(count)])
