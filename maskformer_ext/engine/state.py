"""Checkpoints: written so that a crash at any moment loses no earlier one, read without trusting their content.

A checkpoint is a folder ``checkpoints/iter_0000500`` below the run's output folder::

    model.safetensors    the weights (their moving average where there is one), configuration and classes in its header
    config.yaml          the complete configuration
    dataset.json         the classes, their colours, which of them are things
    training_state.pt    optimizer, loss scale, iteration: what resuming needs; read with ``weights_only=True``
    manifest.json        size and SHA-256 of the other files; written last

It is written under a temporary name, flushed to disk, renamed, and only then named in the file ``latest``; older ones
are removed after that. A folder whose files do not agree with its manifest is never chosen.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskformer_ext.checkpoints.native import MODEL_FILE, assign_weights, read_weights, write_model_files
from maskformer_ext.checkpoints.reading import check_tensor
from maskformer_ext.checkpoints.torch_files import read_torch
from maskformer_ext.config import Config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError, visible, why
from maskformer_ext.files import new_folder, read_json, write_json, write_text
from maskformer_ext.modeling.weights import nonfinite_weights

TRAINING_FILE = "training_state.pt"
_MANIFEST_FILE = "manifest.json"
_LATEST = "latest"
_COUNTERS: dict[str, tuple[Any, float]] = {
    "iteration": (int, 1e12),
    "bad_steps": (int, 1e12),
    "seconds": (int | float, 1e12),
}
__all__ = [
    "MODEL_FILE",
    "TRAINING_FILE",
    "assign_weights",
    "damage",
    "find_checkpoint",
    "load_checkpoint",
    "load_training_state",
    "read_weights",
    "resolve_checkpoint",
    "save_checkpoint",
]


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
        write_text(root / _LATEST, target.name, durable=True)
    except BaseException as error:
        if replaced.exists() and not target.exists():
            os.replace(replaced, target)
        if isinstance(error, UserError):
            raise UserError(f"checkpoint {error}; earlier checkpoints are untouched") from error
        if isinstance(error, OSError):
            raise UserError(f"checkpoint {target} could not be written: {why(error)}") from error
        raise
    shutil.rmtree(replaced, ignore_errors=True)
    for old in [path for path in _by_age(root) if path != target][max(keep, 1) - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def find_checkpoint(output_dir: str | Path) -> Path | None:
    """Return the newest complete checkpoint of a run, or None; damaged ones are passed over."""
    root = Path(output_dir) / "checkpoints"
    candidates = _by_age(root)
    try:
        named = (root / _LATEST).read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):
        named = ""
    candidates.sort(key=lambda path: path.name != named)  # stable: the named one first, then by age
    return next((path for path in candidates if damage(path) is None), None)


def damage(folder: Path) -> str | None:
    """Say what is wrong with a checkpoint folder, None if it is complete."""
    try:
        problem = _mismatch(folder)
    except UserError as error:
        problem = str(error)
    except (OSError, ValueError) as error:
        problem = f"{folder / _MANIFEST_FILE} cannot be checked ({why(error)})"
    return None if problem is None else visible(problem)


def _mismatch(folder: Path) -> str | None:
    file = folder / _MANIFEST_FILE
    manifest = read_json(file, "a list of a checkpoint's files")
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or MODEL_FILE not in files:
        return f"{file} must list its files and {MODEL_FILE} among them"
    for name, expected in files.items():
        path = folder / name
        if Path(name).name != name or not isinstance(expected, dict):
            return f"{file} names {name!r:.80}, which is no file of a checkpoint"
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != expected.get("bytes") or _digest(path) != expected.get("sha256"):
            return f"{path} is not what was written"
    return None


def resolve_checkpoint(path: str | Path) -> Path:
    """Return the ``model.safetensors`` that a run's output folder, a checkpoint folder or a file stands for."""
    path = Path(path).expanduser()
    if path.is_file() and path.suffix == ".safetensors":
        return path
    if not path.exists():
        raise UserError(f"checkpoint {path} does not exist")
    folder: Path | None = path if (path / MODEL_FILE).is_file() else find_checkpoint(path)
    if folder is None and path.name == "checkpoints":
        folder = find_checkpoint(path.parent)
    if folder is None:
        raise UserError(
            f"{path} holds no complete checkpoint: expected the output folder of a run, one of its checkpoints/iter_* "
            f"folders or a {MODEL_FILE} file"
        )
    if (folder / _MANIFEST_FILE).exists() and (problem := damage(folder)):
        raise UserError(f"checkpoint {folder} is damaged: {problem}")
    return folder / MODEL_FILE


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, Config, DatasetInfo]:
    """Build the model of a checkpoint, with its weights, ready for inference.

    Args:
        path: the output folder of a run (its newest checkpoint), a checkpoint folder, a ``model.safetensors`` file, or
            whatever else `MaskFormer.from_pretrained` reads.
        device: where the model goes.

    Returns:
        The model in evaluation mode, its configuration, and the classes that it knows.

    Raises:
        UserError: if there is no checkpoint, it is damaged, its weights belong to another architecture, or they are
            infinite or NaN.
    """
    from maskformer_ext.checkpoints.pretrained import load_pretrained, numbered_classes

    model = load_pretrained(path)
    if problem := nonfinite_weights(model):
        raise UserError(f"{path}: the weights are not finite, so no result would mean anything: {problem}")
    assert model.recipe is not None  # set by load_pretrained
    return model.to(device).eval(), model.recipe, model.dataset_info or numbered_classes(model.num_classes)


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
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for path in sorted(folder.iterdir())}
    write_json(folder / _MANIFEST_FILE, {"iteration": training["iteration"], "files": files})


def _by_age(root: Path) -> list[Path]:
    """List checkpoint folders, the last written first."""

    def written(path: Path) -> tuple[int, str]:
        manifest = path / _MANIFEST_FILE
        try:
            return manifest.stat().st_mtime_ns, path.name
        except OSError:
            return 0, path.name

    return sorted((path for path in root.glob("iter_*") if path.is_dir()), key=written, reverse=True)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
