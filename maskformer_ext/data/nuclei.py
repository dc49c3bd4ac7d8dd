"""Cell nuclei of the 2018 Data Science Bowl (BBBC038v1): one thing class, up to hundreds an image, and background."""

from __future__ import annotations

from pathlib import Path

from maskformer_ext.data.classes import ClassTable
from maskformer_ext.data.folders import InstanceFolder

_TABLE = ClassTable(("nucleus", "background"), ((255, 196, 0), (32, 32, 64)), things=(0,), background=1)


def nuclei(root: Path, split: str, *, task: str = "panoptic", skip_errors: bool = False) -> InstanceFolder:
    """Return a split of the nuclei: ``images/*.png`` and ``instances/*.png`` (16-bit ids) below ``train`` and ``val``.

    Args:
        root: the folder of the data set.
        split: "train" or "val".
        task: "panoptic" (background is stuff), "instance" or "semantic".
        skip_errors: leave out files without partner instead of raising.
    """
    folder = root / split
    return InstanceFolder(
        folder / "images", folder / "instances", _TABLE, task=task, name="nuclei", skip_errors=skip_errors
    )
