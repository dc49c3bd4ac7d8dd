"""The embedded data set: real handwritten digits on regions of real textures, generated as they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Description

if TYPE_CHECKING:
    from maskformer_ext.data.readers.digits import DigitsDataset


def build(config: DataConfig, root: Path, split: str) -> DigitsDataset:
    """Return a split: ``data.num_train`` or ``data.num_val`` images. There is no root."""
    from maskformer_ext.data.readers.digits import DigitsDataset

    return DigitsDataset(
        split,
        task=config.task,
        length=config.num_train if split == "train" else config.num_val,
        image_size=config.image_size,
        fine_classes=config.fine_classes,
    )


DESCRIPTION = Description(
    title="Handwritten digits on textures and photographs",
    tasks=("semantic", "instance", "panoptic"),
    usual_task="panoptic",
    build=build,
    generated=True,
)
