"""CamVid: road scenes with 11 classes; a semantic folder with its layout filled in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.config import DataConfig
from maskformer_ext.data.classes import read_classes_file
from maskformer_ext.data.description import Description

if TYPE_CHECKING:
    from maskformer_ext.data.readers.folders import SemanticFolder


def split_folders(config: DataConfig, split: str) -> tuple[str, str]:
    """Return where the images, JPEG files, and the labels, PNG files, of a split lie below the root."""
    return f"{split}/images", f"{split}/labels"


def build(config: DataConfig, root: Path, split: str) -> SemanticFolder:
    """Return a split. The root also holds ``classes.json``."""
    from maskformer_ext.data.readers.folders import SemanticFolder

    images, labels = split_folders(config, split)
    table = read_classes_file(root / "classes.json")
    return SemanticFolder(root / images, root / labels, table, name="camvid", skip_errors=config.on_error == "skip")


DESCRIPTION = Description(
    title="CamVid, 11 classes",
    tasks=("semantic",),
    usual_task="semantic",
    build=build,
    folder="camvid",
    split_folders=split_folders,
)
