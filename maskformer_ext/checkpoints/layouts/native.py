"""This package's own layout: ``model.safetensors`` with configuration and classes in its header, and both as text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from maskformer_ext.checkpoints.files.safetensors_files import read_safetensors, write_safetensors
from maskformer_ext.checkpoints.files.tensors import check_kind
from maskformer_ext.config import Config, to_dict
from maskformer_ext.config.load import save_config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError, visible, why
from maskformer_ext.files import write_text

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
DATASET_FILE = "dataset.json"
_LONGEST_DESCRIPTION = 1 << 25  # characters: a million names of ordinary length


def write_model_files(folder: Path, model: nn.Module, config: Config, info: DatasetInfo) -> None:
    """Write weights, configuration and classes into a folder; the weights' file alone is enough to read them again."""
    dataset = json.dumps(dataclasses.asdict(info))
    write_safetensors(
        folder / MODEL_FILE, model.state_dict(), {"config": json.dumps(to_dict(config)), "dataset": dataset}
    )
    save_config(config, folder / CONFIG_FILE)
    write_text(folder / DATASET_FILE, dataset)


def read_weights(file: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and header of a ``model.safetensors`` file in this package's own layout.

    Raises:
        UserError: if it cannot be read or is of another layout.
    """
    weights, header = read_safetensors(Path(file))
    if missing := {"config", "dataset"} - header.keys():
        raise UserError(f"{file} was not written by maskformer-ext: its header lacks {' and '.join(sorted(missing))}")
    return weights, header


def info_from_json(text: str, num_classes: int | None = None) -> DatasetInfo:
    """Return the classes that a header or ``dataset.json`` describes; control characters in names are escaped.

    Args:
        text: JSON.
        num_classes: how many there must be; None: any number.

    Raises:
        UserError: if the text is damaged or contradicts itself.
    """
    problem = "the description of the classes is damaged"
    if len(text) > _LONGEST_DESCRIPTION:
        raise UserError(f"{problem}: it has {len(text)} characters, more than {_LONGEST_DESCRIPTION}")
    try:
        values = json.loads(text)
        names, colors, things = values["classes"], values["colors"], values["thing_classes"]
        name, ignore = values["name"], values["ignore_label"]
    except (ValueError, LookupError, TypeError, RecursionError, MemoryError) as error:
        raise UserError(f"{problem}: {type(error).__name__}: {why(error)}") from error
    count = len(names) if isinstance(names, list) else -1
    if not isinstance(name, str) or count < 1 or not all(isinstance(entry, str) for entry in names):
        raise UserError(f"{problem}: name must be text and classes a list of names")
    if count != (num_classes or count):
        raise UserError(f"{problem}: it names {count} classes, but the model has {num_classes}")
    if not (isinstance(colors, list) and len(colors) == count and all(map(_is_color, colors))):
        raise UserError(f"{problem}: colors must be {count} times [red, green, blue] in 0..255")
    if not (isinstance(things, list) and all(_is_integer(thing, 0, count - 1) for thing in things)):
        raise UserError(f"{problem}: thing_classes must be a list of class ids in 0..{count - 1}")
    if len(set(things)) != len(things):
        raise UserError(f"{problem}: thing_classes names a class twice")
    if not _is_integer(ignore, -(2**31), 2**31 - 1):
        raise UserError(f"{problem}: ignore_label must be a 32-bit integer, got {ignore!r:.40}")
    return DatasetInfo(
        name=visible(name),
        classes=tuple(map(visible, names)),
        colors=tuple(tuple(color) for color in colors),
        thing_classes=tuple(things),
        ignore_label=ignore,
    )


def _is_integer(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_color(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_integer(part, 0, 255) for part in value)


def assign_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str | Path) -> None:
    """Copy weights into a model whose parameters must have exactly these names and shapes.

    Raises:
        UserError: naming the first key that differs.
    """
    check_weights(model, weights, source)
    model.load_state_dict(weights)


def check_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str | Path) -> None:
    """Check that weights are those of a model, which may be on the meta device; errors as `assign_weights`."""
    own = model.state_dict()
    for key, target in own.items():
        if key not in weights:
            raise UserError(f"checkpoint {source} is of another architecture: it lacks {key!r}")
        value = weights[key]
        if value.shape != target.shape:
            raise UserError(
                f"checkpoint {source} is of another architecture or number of classes: {key!r} is "
                f"{tuple(value.shape)} there, but {tuple(target.shape)} in this model; where only the classes "
                f"differ, init_from={source} with reset_head=true starts with a new classifier"
            )
        check_kind(key, value, target, f"checkpoint {source}")
    for key in weights:
        if key not in own:
            raise UserError(f"checkpoint {source} is of another architecture: this model has no {key!r:.80}")
