"""Cell nuclei of the 2018 Data Science Bowl (BBBC038v1): one thing class, up to hundreds per image, and background."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.config import DataConfig
from maskformer_ext.data.classes import ClassTable
from maskformer_ext.data.description import Description

if TYPE_CHECKING:
    from maskformer_ext.data.readers.folders import InstanceFolder

_TABLE = ClassTable(("nucleus", "background"), ((255, 196, 0), (32, 32, 64)), things=(0,), background=1)


def split_folders(config: DataConfig, split: str) -> tuple[str, str]:
    """Return where the images and the 16-bit instance ids of a split, all PNG files, lie below the root."""
    return f"{split}/images", f"{split}/instances"


def build(config: DataConfig, root: Path, split: str) -> InstanceFolder:
    """Return a split. In the task "panoptic" the background is stuff."""
    from maskformer_ext.data.readers.folders import InstanceFolder

    images, instances = split_folders(config, split)
    skip = config.on_error == "skip"
    return InstanceFolder(root / images, root / instances, _TABLE, task=config.task, name="nuclei", skip_errors=skip)


DESCRIPTION = Description(
    title="Cell nuclei",
    tasks=("semantic", "instance", "panoptic"),
    usual_task="panoptic",
    build=build,
    folder="nuclei",
    split_folders=split_folders,
)
