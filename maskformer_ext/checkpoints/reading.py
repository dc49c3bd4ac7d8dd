"""Read a state dict from a file without running code that the file may hold."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.checkpoints.pickles import read_pickle
from maskformer_ext.errors import UserError

_WRAPPERS = ("model", "state_dict", "model_state_dict")
_PARALLEL = "module."  # what DistributedDataParallel puts before all names
_ZIP = b"PK\x03\x04"  # how files of torch.save begin


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a ``.pth``, ``.pt``, ``.bin``, ``.pkl`` or ``.safetensors`` file.

    Args:
        path: the file; a state dict by itself, or below ``model`` or ``state_dict`` as training programs write it; or
            the ``.index.json`` of weights that are split over several files.

    Returns:
        Tensors on the CPU, by name.

    Raises:
        UserError: if the file is missing, truncated, or holds anything but tensors, arrays and plain containers.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"weights file {path} does not exist")
    if path.name.endswith(".index.json"):
        return _read_parts(path)
    content: Any
    if path.suffix == ".safetensors":
        content = read_safetensors(path)[0]
    elif path.suffix in (".pkl", ".pickle") and not _is_zip(path):
        content = read_pickle(path)
    else:
        content = _read_torch(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise UserError(f"weights file {path} must hold a state dict (names and tensors)")
    state = {name: _tensor(name, value, path) for name, value in content.items()}
    wrapped = all(name.startswith(_PARALLEL) for name in state)
    return {name.removeprefix(_PARALLEL) if wrapped else name: value for name, value in state.items()}


def _tensor(name: Any, value: Any, path: Path) -> Tensor:
    if isinstance(name, str) and isinstance(value, Tensor):
        return value
    if isinstance(name, str) and isinstance(value, np.ndarray | np.generic):
        try:
            return torch.from_numpy(np.array(value))
        except TypeError:
            raise UserError(
                f"weights file {path}: {name} has the type {value.dtype}, which torch does not know"
            ) from None
    raise UserError(
        f"weights file {path} must hold a state dict (names and tensors), got {type(value).__name__} for {name!r}"
    )


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"{named[1]}, which is" if named else "more than"
        raise UserError(
            f"weights file {path} holds {what}{' neither a tensor nor' if named else ' tensors and'} a plain "
            "container; it was not loaded"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"weights file {path} cannot be read; it may be truncated: {error}") from error


def _read_parts(index: Path) -> dict[str, Tensor]:
    """Read the files that an index names; they lie beside it."""
    try:
        places = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        if wrong := [file for file in places.values() if not isinstance(file, str)]:
            raise TypeError(f"{wrong[0]!r:.40} is no name of a file")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"weights file {index} is not an index of split weights: {error}") from error
    weights: dict[str, Tensor] = {}
    for file in sorted(set(places.values())):
        weights |= read_state_dict(index.parent / Path(file).name)
    if missing := sorted(places.keys() - weights.keys()):
        raise UserError(f"weights file {index} names {missing[0]}, which {places[missing[0]]} does not hold")
    return weights


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a ``.safetensors`` file, and the texts in its header.

    Raises:
        UserError: if the file is missing or truncated.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"weights file {path} cannot be read; it may be truncated: {error}") from error
