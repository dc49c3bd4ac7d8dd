"""The user's own images with one image of instance ids each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Description, Recognition, configured_folders, plain_folders
from maskformer_ext.data.layouts.masks import recognise_folders

if TYPE_CHECKING:
    from maskformer_ext.data.readers.folders import InstanceFolder


def build(config: DataConfig, root: Path, split: str) -> InstanceFolder:
    """Return a split, in the folders and with the classes file that the configuration names."""
    from maskformer_ext.data.readers.folders import InstanceFolder
    from maskformer_ext.data.readers.split_pairs import folder_classes, split_pairs

    images, labels = configured_folders(config, split)
    table = folder_classes(config, root, instances=True)
    pairs = split_pairs(config, root, split)
    skip = config.on_error == "skip"
    return InstanceFolder(root / images, root / labels, table, task=config.task, pairs=pairs, skip_errors=skip)


def recognise(root: Path) -> Recognition | None:
    """Return what a folder holds of label images of instance ids, however its folders are called."""
    return recognise_folders(root, instances=True)


DESCRIPTION = Description(
    title="Your own images with one image of instance ids each",
    tasks=("semantic", "instance", "panoptic"),
    usual_task="instance",
    build=build,
    split_folders=plain_folders,
    own_classes=True,
    recognise=recognise,
)
