"""The user's own images with one image of instance ids each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.config import DataConfig
from maskformer_ext.data.classes import configured_classes
from maskformer_ext.data.description import Description, Recognition, configured_folders
from maskformer_ext.data.folder_layouts import recognise_folders

if TYPE_CHECKING:
    from maskformer_ext.data.readers.folders import InstanceFolder


def build(config: DataConfig, root: Path, split: str) -> InstanceFolder:
    """Return a split, in the folders and with the classes file that the configuration names."""
    from maskformer_ext.data.readers.folders import InstanceFolder

    images, labels = configured_folders(config, split)
    table = configured_classes(config, root)
    return InstanceFolder(root / images, root / labels, table, task=config.task, skip_errors=config.on_error == "skip")


def recognise(root: Path) -> Recognition | None:
    """Return what a folder holds that is laid out as docs/data.md shows it, and whose classes file names things."""
    return recognise_folders(root, instances=True)


DESCRIPTION = Description(
    title="Your own images with one image of instance ids each",
    tasks=("semantic", "instance", "panoptic"),
    usual_task="instance",
    build=build,
    split_folders=configured_folders,
    own_classes=True,
    recognise=recognise,
)
