"""Checkpoints: written so that a crash at any moment loses no earlier one, read without trusting their content.

A checkpoint is a folder ``checkpoints/iter_0000500`` below the run's output folder::

    model.safetensors    the weights (their moving average where there is one), configuration and classes in its header
    config.yaml          the complete configuration
    dataset.json         the classes, their colours, which of them are things
    training_state.pt    optimizer, loss scale, iteration: what resuming needs; read with ``weights_only=True``
    manifest.json        size and SHA-256 of the other files; written last

It is written under a temporary name, flushed to disk, renamed, and only then named in the file ``latest``. Older ones
are removed after that. A folder whose files do not agree with its manifest is never chosen.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskformer_ext.checkpoints.files.tensors import check_tensor
from maskformer_ext.checkpoints.files.torch_files import read_torch
from maskformer_ext.checkpoints.layouts.native import write_model_files
from maskformer_ext.checkpoints.runs import LATEST, MANIFEST_FILE, by_age
from maskformer_ext.config import Config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError, why
from maskformer_ext.files import digest_of, new_folder, write_json, write_text

TRAINING_FILE = "training_state.pt"
_COUNTERS: dict[str, tuple[Any, float]] = {
    "iteration": (int, 1e12),
    "bad_steps": (int, 1e12),
    "seconds": (int | float, 1e12),
}


def save_checkpoint(
    output_dir: str | Path,
    iteration: int,
    *,
    model: nn.Module,
    config: Config,
    info: DatasetInfo,
    training: Mapping[str, Any],
    keep: int = 2,
) -> Path:
    """Write a checkpoint atomically and remove the oldest beyond ``keep``.

    Args:
        output_dir: the output folder of the run.
        iteration: how many optimiser steps have been done.
        model: whose weights are saved.
        config: the configuration, with ``model.num_classes`` set.
        info: the classes of the data set.
        training: tensors and plain values that resuming needs; must be loadable with ``weights_only=True``.
        keep: how many checkpoints stay.

    Returns:
        The folder of the new checkpoint.

    Raises:
        UserError: if the disk is full or not writable; earlier checkpoints are untouched.
    """
    root = Path(output_dir) / "checkpoints"
    target = root / f"iter_{iteration:07d}"
    replaced = target.with_name(f"{target.name}.replaced")  # a name under which it is still found
    for leftover in root.glob(".iter_*.tmp"):  # of a run that was killed while it wrote
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with new_folder(target, overwrite=True) as temporary:
            _write_files(temporary, model, config, info, {**training, "iteration": iteration})
            if target.exists():  # the same iteration again, after resuming from an older checkpoint
                shutil.rmtree(replaced, ignore_errors=True)
                os.replace(target, replaced)
        write_text(root / LATEST, target.name, durable=True)
    except BaseException as error:
        if replaced.exists() and not target.exists():
            os.replace(replaced, target)
        if isinstance(error, UserError):
            raise UserError(f"checkpoint {error}; earlier checkpoints are untouched") from error
        if isinstance(error, OSError):
            raise UserError(f"checkpoint {target} could not be written: {why(error)}") from error
        raise
    shutil.rmtree(replaced, ignore_errors=True)
    for old in [path for path in by_age(root) if path != target][max(keep, 1) - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_training_state(folder: str | Path) -> dict[str, Any]:
    """Read what resuming needs from a checkpoint folder; nothing in the file is executed.

    Raises:
        UserError: if it is missing, damaged or of another structure.
    """
    file = Path(folder) / TRAINING_FILE
    if not file.is_file():
        raise UserError(f"{file} does not exist: training cannot go on from this checkpoint")
    problem = f"{file} is not a training state of this program"
    try:
        state = read_torch(file)
    except UserError as error:
        raise UserError(f"{problem}: {error}") from error
    if not isinstance(state, dict):
        raise UserError(f"{problem}: it is a {type(state).__name__}")
    for key, (kind, most) in _COUNTERS.items():
        value = state.get(key, 0)
        if not isinstance(value, kind) or isinstance(value, bool) or not 0 <= value <= most:
            raise UserError(f"{problem}: {key} must be a number from 0 to {most:g}, got {value!r:.40}")
    if not _is_scores(state.get("untrained", {})):
        raise UserError(f"{problem}: untrained must be scores by name")
    if weights := state.get("weights"):
        if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
            raise UserError(f"{problem}: weights must be tensors by name")
        state["weights"] = {name: check_tensor(name, value, problem) for name, value in weights.items()}
    return state


def _is_scores(value: Any, depth: int = 0) -> bool:
    if isinstance(value, dict):
        return depth < 4 and all(isinstance(key, str) and _is_scores(entry, depth + 1) for key, entry in value.items())
    return depth > 0 and isinstance(value, int | float | str | None)


def _write_files(
    folder: Path, model: nn.Module, config: Config, info: DatasetInfo, training: Mapping[str, Any]
) -> None:
    write_model_files(folder, model, config, info)
    with (folder / TRAINING_FILE).open("wb") as file:  # by its path, torch would hide why the disk does not take it
        torch.save(dict(training), file)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": digest_of(path)} for path in sorted(folder.iterdir())}
    write_json(folder / MANIFEST_FILE, {"iteration": training["iteration"], "files": files})
