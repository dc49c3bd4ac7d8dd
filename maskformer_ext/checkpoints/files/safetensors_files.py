"""Files of safetensors: tensors by name, and a header of texts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from maskformer_ext.checkpoints.files.tensors import check_tensor
from maskformer_ext.errors import UserError, why

_MOST_TENSORS = 100_000  # of a file of safetensors: a hundred times what networks have, and seconds to look through


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a ``.safetensors`` file, and the texts in its header.

    Raises:
        UserError: if the file is missing or truncated, or has more tensors than any network.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            if len(opened.keys()) > _MOST_TENSORS:
                raise UserError(f"weights file {path} has {len(opened.keys())} tensors, more than {_MOST_TENSORS}")
            weights, header = {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}
    except (SafetensorError, OSError, AttributeError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise UserError(f"weights file {path} cannot be read; it may be truncated: {why(error)}") from error
    return {name: check_tensor(name, value, f"weights file {path}") for name, value in weights.items()}, header


def write_safetensors(file: Path, weights: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors of any device, layout and sharing, and a header of texts.

    Raises:
        OSError: if the disk does not take them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    file.touch()
    mode = file.stat().st_mode  # of any new file; safetensors makes one that only its owner can read
    try:
        save_file(plain, file, metadata={"format": "pt", **header})
        file.chmod(mode)
    except SafetensorError as error:  # which puts the error of the disk into words
        number = re.search(r"os error (\d+)", str(error))
        reason = os.strerror(int(number[1])) if number else str(error)
        raise OSError(int(number[1]) if number else 0, reason) from error
