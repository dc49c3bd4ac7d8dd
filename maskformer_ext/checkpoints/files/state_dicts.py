"""Read a state dict from a file without running code that the file may hold."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.checkpoints.files.numpy_pickles import read_pickle
from maskformer_ext.checkpoints.files.safetensors_files import read_safetensors
from maskformer_ext.checkpoints.files.tensors import check_tensor
from maskformer_ext.checkpoints.files.torch_files import ZIP, read_torch
from maskformer_ext.checkpoints.layouts.recognition import bare_names, find_state, layout_of
from maskformer_ext.config.values import PROGRAM_ENDINGS
from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.files import read_json

_INDEX = "an index of split weights"
_VIEWS = 8  # times the file's bytes: what the weights may take, since some share their numbers
_LEAST = 1 << 20
_MOST_PARTS = 10_000


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a ``.pth``, ``.pt``, ``.bin``, ``.pkl`` or ``.safetensors`` file.

    Args:
        path: the file, or the ``.index.json`` of weights that are split over several files. Its state dict may lie
            below ``model``, ``state_dict`` or any other key that training programs use.

    Returns:
        Tensors on the CPU, by name. What wrappers put before the names is taken off (`bare_names`).

    Raises:
        UserError: if the file is missing, truncated, or holds anything but tensors, arrays and plain containers.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"weights file {path} does not exist")
    if path.suffix.lower() in PROGRAM_ENDINGS:
        raise UserError(
            f"{printable(path)} is an exported program, which predict, evaluate and demo run: it holds no weights that "
            "can be read. Give the checkpoint that it was made of"
        )
    weights = _read_parts(path) if path.name.endswith(".index.json") else _read_file(path)
    try:
        return bare_names(weights)
    except UserError as error:
        raise UserError(f"weights file {path}: {str(error).removeprefix('checkpoint: ')}") from None


def _read_file(path: Path) -> dict[str, Tensor]:
    content: Any
    if path.suffix == ".safetensors":
        content = read_safetensors(path)[0]
    elif path.suffix in (".pkl", ".pickle") and not _is_zip(path):
        content = read_pickle(path)
    else:
        content = read_torch(path)
    content = find_state(content)
    if not isinstance(content, dict) or not content:
        raise UserError(f"weights file {path} must hold a state dict (names and tensors)")
    known = layout_of(content) is not None
    plain = (str, int, float, type(None))  # beside the weights of a known network: the number of a step, say
    entries = {name: value for name, value in content.items() if not (known and isinstance(value, plain))}
    return _bounded({name: _tensor(name, value, path) for name, value in entries.items()}, path)


def _tensor(name: Any, value: Any, path: Path) -> Tensor:
    if isinstance(name, str) and isinstance(value, Tensor):
        return check_tensor(name, value, f"weights file {path}")
    if isinstance(name, str) and isinstance(value, np.ndarray | np.generic):
        try:
            return check_tensor(name, torch.from_numpy(np.array(value)), f"weights file {path}")
        except TypeError:
            raise UserError(
                f"weights file {path}: {name} has the type {value.dtype}, which torch does not know"
            ) from None
    raise UserError(
        f"weights file {path} must hold a state dict (names and tensors), got {type(value).__name__} for "
        f"{printable(name)!r:.80}"
    )


def _bounded(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    total = sum(math.prod(value.shape) * value.element_size() for value in weights.values())
    size = path.stat().st_size
    if total > max(_VIEWS * size, _LEAST):
        raise UserError(f"weights file {path} has {size} bytes, but its tensors would take {total}")
    return weights


def _read_parts(index: Path) -> dict[str, Tensor]:
    """Read the files that an index names; they lie beside it."""
    content = read_json(index, _INDEX)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise UserError(f"weights file {index} is not {_INDEX}: weight_map must name a file for each weight")
    if wrong := [file for file in places.values() if not isinstance(file, str)]:
        raise UserError(f"weights file {index} is not {_INDEX}: {wrong[0]!r:.40} is no name of a file")
    files = sorted({Path(file).name for file in places.values()})
    if len(files) > _MOST_PARTS:
        raise UserError(f"weights file {index} names {len(files)} files, more than {_MOST_PARTS}")
    weights: dict[str, Tensor] = {}
    for file in files:
        part = index.parent / file
        if part == index or file.endswith(".index.json"):
            raise UserError(f"weights file {index} is not {_INDEX}: it names {file}, which is an index itself")
        if not part.is_file():
            raise UserError(f"weights file {part} does not exist, which {index.name} names")
        weights |= _read_file(part)
    if missing := sorted(places.keys() - weights.keys()):
        raise UserError(f"weights file {index} names {missing[0]}, which {places[missing[0]]} does not hold")
    return weights


def _is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(ZIP)) == ZIP
    except OSError as error:
        raise UserError(f"weights file {path} cannot be read: {why(error)}") from None
