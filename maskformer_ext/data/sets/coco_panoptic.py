"""COCO panoptic 2017, 80 things and 53 stuff classes, and other data sets in its layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Conversion, Description, Distribution
from maskformer_ext.data.tables import load_categories

if TYPE_CHECKING:
    from maskformer_ext.data.preparing.writers import WriteLabels
    from maskformer_ext.data.readers.coco_panoptic import CocoPanoptic


def build(config: DataConfig, root: Path, split: str) -> CocoPanoptic:
    """Return a split: images in ``train2017``, and the JSON file and the PNGs in ``annotations``, or ``val2017``."""
    from maskformer_ext.data.readers.coco_panoptic import CocoPanoptic

    annotations, other = root / "annotations", "val" if split == "train" else "train"
    return CocoPanoptic(
        root / f"{split}2017",
        annotations / f"panoptic_{split}2017",
        annotations / f"panoptic_{split}2017.json",
        load_categories("coco_panoptic"),
        task=config.task,
        skip_errors=config.on_error == "skip",
        partner=annotations / f"panoptic_{other}2017.json",
    )


def _outputs(root: Path, split: str) -> list[Path]:
    return [root / f"panoptic_semseg_{split}2017"]


def _write(dataset: Any, root: Path, split: str) -> WriteLabels:
    from maskformer_ext.data.preparing.writers import WriteLabels, working_folder

    return WriteLabels(dataset, working_folder(_outputs(root, split)[0]))


DESCRIPTION = Description(
    title="COCO panoptic 2017, 133 classes",
    tasks=("panoptic", "instance", "semantic"),
    usual_task="panoptic",
    build=build,
    folder="coco",
    distribution=Distribution(
        download="cocodataset.org",
        table="coco_panoptic",
        images={"train": 118287, "val": 5000},
        needs={
            "train2017": "training images (train2017.zip)",
            "val2017": "validation images (val2017.zip)",
            "annotations/panoptic_train2017.json": "annotations (panoptic_annotations_trainval2017.zip)",
            "annotations/panoptic_val2017.json": "annotations (panoptic_annotations_trainval2017.zip)",
            "annotations/panoptic_train2017": "PNGs (panoptic_train2017.zip inside the annotations' zip)",
            "annotations/panoptic_val2017": "PNGs (panoptic_val2017.zip inside the annotations' zip)",
        },
        aliases=("coco_panoptic_133",),
    ),
    conversion=Conversion("semantic label images of the panoptic ones", False, "semantic", _outputs, _write),
)
