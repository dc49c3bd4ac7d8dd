"""What commands check before they import torch: a mistyped path is told within a moment."""

from __future__ import annotations

import difflib
from pathlib import Path

from maskformer_ext.config import Config, DataConfig
from maskformer_ext.config.values import HUB_ID
from maskformer_ext.errors import UserError, printable

_FILE_ENDINGS = (".safetensors", ".pth", ".pt", ".pkl", ".bin", ".onnx", ".pt2")
_NO_WEIGHTS = (".json", ".jsonl", ".yaml", ".yml", ".html", ".txt", ".py", ".jpg", ".jpeg", ".png", ".mp4")
_KINDS = f"give the output folder of a run, or a file such as {', '.join(_FILE_ENDINGS)}"


def check_weights(key: str, source: str) -> None:
    """Check that weights are there, as far as the disk can tell: what may be a hub id passes.

    Args:
        key: the argument, for the error.
        source: a file, a folder or a hub id.

    Raises:
        UserError: if it is a path that does not exist; it names the nearest run beside it. Also if it is a file that
            holds something else, such as the config.json beside the weights.
    """
    path = Path(source).expanduser()
    if path.is_file() and path.suffix.lower() in _NO_WEIGHTS:
        hint = f"give its folder, {key}={printable(path.parent)}" if _has_weights(path.parent) else _KINDS
        raise UserError(f"{key}={printable(source)} holds no weights: {hint}")
    if path.exists() or (HUB_ID.fullmatch(source) and not _is_file_name(path) and not _runs_in(path.parent)):
        return
    near = difflib.get_close_matches(path.name, _runs_in(path.parent), n=1, cutoff=0.6)
    hint = (
        f": did you mean {path.parent / near[0]}?"
        if near
        else ", and is no hub id such as facebook/maskformer-swin-tiny-ade"
    )
    raise UserError(f"{key}={printable(source)} does not exist{hint}")


def check_run(config: Config) -> None:
    """Check that everything that a training run starts from is there.

    Raises:
        UserError: for the first that is missing: a data set, its folders, weights or a checkpoint.
    """
    from maskformer_ext.data.locations import check_location

    check_location(config.data, ("train", "val"))
    if config.init_from:
        check_weights("init_from", config.init_from)
    elif config.reset_head:
        raise UserError("reset_head=true needs init_from=WEIGHTS, whose classifier it replaces")
    if config.resume not in ("none", "auto") and not Path(config.resume).expanduser().exists():
        raise UserError(
            f"resume: the checkpoint {printable(config.resume)} does not exist: give none, auto or a checkpoint folder"
        )
    weights = config.model.backbone_weights
    if weights and _is_file_name(Path(weights)) and not Path(weights).expanduser().exists():
        raise UserError(f"model.backbone_weights={printable(weights)} does not exist")


def check_data_root(config: DataConfig) -> None:
    """Check the folder that ``data.root`` names, where it names one.

    Raises:
        UserError: if it is missing.
    """
    if config.root and not Path(config.root).expanduser().is_dir():
        problem = "is a file" if Path(config.root).expanduser().exists() else "is missing"
        raise UserError(f"the folder {printable(config.root)} {problem}: set data.root to the folder of the data set.")


def _is_file_name(path: Path) -> bool:
    return path.suffix in _FILE_ENDINGS


def _has_weights(folder: Path) -> bool:
    return (folder / "checkpoints").is_dir() or any((folder / f"model{ending}").is_file() for ending in _FILE_ENDINGS)


def _runs_in(folder: Path) -> list[str]:
    """List the runs in a folder: names of folders that hold checkpoints."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if (path / "checkpoints").is_dir())
