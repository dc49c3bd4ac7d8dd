"""Which file holds the weights: of a run, of a folder in any layout, or of a model on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from maskformer_ext.checkpoints.runs import MANIFEST_FILE, resolve_checkpoint
from maskformer_ext.config.values import HUB_ID
from maskformer_ext.errors import UserError, why

_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def find_weights(source: str | Path) -> Path:
    """Return the weights' file that ``source`` stands for.

    Args:
        source: a file, a folder with weights in this package's or transformers' layout, or the output folder of a run,
            whose newest checkpoint is taken. What does not exist on the disk is looked for on the Hugging Face hub,
            and downloaded once.

    Raises:
        UserError: if there is none, or a run's checkpoint is damaged.
    """
    try:
        path = Path(source).expanduser()
        there, is_file = path.exists(), path.is_file()
    except (ValueError, OSError, RuntimeError) as error:
        raise UserError(f"{source} is no name of a file ({why(error)})") from None
    if is_file:
        return path
    if not there:
        if isinstance(source, str) and HUB_ID.fullmatch(source):
            return _in_folder(_download(source))
        raise UserError(f"{source} does not exist, and is no hub id such as facebook/maskformer-swin-tiny-ade")
    if (path / MANIFEST_FILE).is_file() or not any((path / name).is_file() for name in _WEIGHT_FILES):
        return resolve_checkpoint(path)
    return _in_folder(path)


def _in_folder(folder: Path) -> Path:
    for name in _WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} holds no weights: expected one of {', '.join(_WEIGHT_FILES)}")


def _download(hub_id: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        for weights in ("model*.safetensors*", "pytorch_model*.bin*"):  # not both: each is the whole model
            folder = Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=["*.json", weights]))
            if any((folder / name).is_file() for name in _WEIGHT_FILES):
                return folder
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise UserError(
            f"{hub_id} does not exist here and could not be downloaded from the Hugging Face hub: {why(error)}"
        ) from error
    raise UserError(f"{hub_id} on the Hugging Face hub holds no weights: expected one of {', '.join(_WEIGHT_FILES)}")
