"""Read a state dict from a file without running code that the file may hold."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskformer_ext.errors import UserError

_WRAPPERS = ("model", "state_dict", "model_state_dict")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a ``.pth``, ``.pt``, ``.bin`` or ``.safetensors`` file.

    Args:
        path: the file; a state dict by itself, or below ``model`` or ``state_dict`` as training programs write it.

    Returns:
        Tensors on the CPU, by name.

    Raises:
        UserError: if the file is missing, truncated, or holds anything but tensors and plain containers.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"weights file {path} does not exist")
    content: Any
    if path.suffix == ".safetensors":
        content = _read_safetensors(path)
    else:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise UserError(
                f"weights file {path} holds more than tensors and plain containers; it was not loaded"
            ) from error
        except (RuntimeError, EOFError, OSError, ValueError) as error:
            raise UserError(f"weights file {path} cannot be read; it may be truncated: {error}") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"weights file {path} must hold a state dict (names and tensors)")
    return dict(content)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"weights file {path} cannot be read; it may be truncated: {error}") from error
