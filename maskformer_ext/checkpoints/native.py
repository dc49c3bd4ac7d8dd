"""This package's own layout: ``model.safetensors`` with configuration and classes in its header, and both as text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from maskformer_ext.checkpoints.reading import read_safetensors
from maskformer_ext.config import Config, to_dict
from maskformer_ext.config_io import save_config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError
from maskformer_ext.files import write_text

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
DATASET_FILE = "dataset.json"


def write_model_files(folder: Path, model: nn.Module, config: Config, info: DatasetInfo) -> None:
    """Write weights, configuration and classes into a folder; the weights' file alone is enough to read them again."""
    dataset = json.dumps(dataclasses.asdict(info))
    write_safetensors(
        folder / MODEL_FILE, model.state_dict(), {"config": json.dumps(to_dict(config)), "dataset": dataset}
    )
    save_config(config, folder / CONFIG_FILE)
    write_text(folder / DATASET_FILE, dataset)


def write_safetensors(file: Path, weights: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors of any device, layout and sharing, and a header of texts."""
    from safetensors.torch import save_file

    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    save_file(plain, file, metadata={"format": "pt", **header})


def read_weights(file: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and header of a ``model.safetensors`` file in this package's own layout.

    Raises:
        UserError: if it cannot be read or is of another layout.
    """
    weights, header = read_safetensors(Path(file))
    if missing := {"config", "dataset"} - header.keys():
        raise UserError(f"{file} was not written by maskformer-ext: its header lacks {' and '.join(sorted(missing))}")
    return weights, header


def info_from_json(text: str) -> DatasetInfo:
    """Return the classes that a header or ``dataset.json`` describes.

    Raises:
        UserError: if the text is damaged.
    """
    try:
        values = json.loads(text)
        return DatasetInfo(
            name=values["name"],
            classes=tuple(values["classes"]),
            colors=tuple(tuple(color) for color in values["colors"]),
            thing_classes=tuple(values["thing_classes"]),
            ignore_label=values["ignore_label"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"the description of the classes is damaged: {type(error).__name__}: {error}") from error


def assign_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str | Path) -> None:
    """Copy weights into a model whose parameters must have exactly these names and shapes.

    Raises:
        UserError: naming the first key that differs.
    """
    own = model.state_dict()
    for key, value in own.items():
        if key not in weights:
            raise UserError(f"checkpoint {source} is of another architecture: it lacks {key!r}")
        if weights[key].shape != value.shape:
            raise UserError(
                f"checkpoint {source} is of another architecture or number of classes: {key!r} is "
                f"{tuple(weights[key].shape)} there, but {tuple(value.shape)} in this model; where only the classes "
                f"differ, init_from={source} with reset_head=true starts with a new classifier"
            )
    for key in weights:
        if key not in own:
            raise UserError(f"checkpoint {source} is of another architecture: this model has no {key!r}")
    model.load_state_dict(weights)
