"""COCO 2017's instances, the 80 things, and other data sets in its layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Description, Distribution
from maskformer_ext.data.tables import load_categories

if TYPE_CHECKING:
    from maskformer_ext.data.readers.coco_instance import CocoInstance


def build(config: DataConfig, root: Path, split: str) -> CocoInstance:
    """Return a split: images in ``train2017`` and the JSON file in ``annotations``, or ``val2017``."""
    from maskformer_ext.data.readers.coco_instance import CocoInstance

    annotations, other = root / "annotations", "val" if split == "train" else "train"
    return CocoInstance(
        root / f"{split}2017",
        annotations / f"instances_{split}2017.json",
        load_categories("coco_panoptic"),
        skip_errors=config.on_error == "skip",
        partner=annotations / f"instances_{other}2017.json",
    )


DESCRIPTION = Description(
    title="COCO instances 2017, 80 classes",
    tasks=("instance",),
    usual_task="instance",
    build=build,
    folder="coco",
    distribution=Distribution(
        download="cocodataset.org",
        table="coco_panoptic",
        images={"train": 118287, "val": 5000},
        needs={
            "train2017": "training images (train2017.zip)",
            "val2017": "validation images (val2017.zip)",
            "annotations/instances_train2017.json": "annotations (annotations_trainval2017.zip)",
            "annotations/instances_val2017.json": "annotations (annotations_trainval2017.zip)",
        },
        aliases=("coco_instance_80",),
    ),
    no_recipe="the original's recipes for COCO are panoptic ones",
)
