"""The user's own images with one label image each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Description, Recognition, configured_folders, plain_folders
from maskformer_ext.data.layouts.masks import recognise_folders

if TYPE_CHECKING:
    from maskformer_ext.data.readers.folders import SemanticFolder


def build(config: DataConfig, root: Path, split: str) -> SemanticFolder:
    """Return a split, in the folders and with the classes file that the configuration names."""
    from maskformer_ext.data.readers.folders import SemanticFolder
    from maskformer_ext.data.readers.split_pairs import folder_classes, split_pairs

    images, labels = configured_folders(config, split)
    table = folder_classes(config, root)
    pairs = split_pairs(config, root, split)
    skip = config.on_error == "skip"
    return SemanticFolder(
        root / images, root / labels, table, ignore_label=config.ignore_label, pairs=pairs, skip_errors=skip
    )


def recognise(root: Path) -> Recognition | None:
    """Return what a folder holds of label images of classes, however its folders are called."""
    return recognise_folders(root, instances=False)


DESCRIPTION = Description(
    title="Your own images with one label image each",
    tasks=("semantic",),
    usual_task="semantic",
    build=build,
    split_folders=plain_folders,
    own_classes=True,
    recognise=recognise,
)
