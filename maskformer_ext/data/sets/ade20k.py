"""ADE20K with 150 classes, as distributed for the Scene Parsing challenge (ADEChallengeData2016)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Conversion, Description, Distribution
from maskformer_ext.data.tables import load_categories

if TYPE_CHECKING:
    from maskformer_ext.data.preparing.writers import WriteLabels
    from maskformer_ext.data.readers.label_images import LabelImages

FOLDERS = {"train": "training", "val": "validation"}


def build(config: DataConfig, root: Path, split: str) -> LabelImages:
    """Return a split: ``images`` and ``annotations`` below the root, with ``training`` and ``validation`` in each.

    A label image holds 1 to 150; 0 (other) is void. Where there is only ``annotations_detectron2``, its shifted values
    (0 to 149, 255) are read.
    """
    from maskformer_ext.data.readers.label_images import LabelImages, value_table
    from maskformer_ext.data.readers.pairs import pair_files

    folder, categories = FOLDERS[split], load_categories("ade20k")
    images, labels, shifted = root / "images" / folder, root / "annotations" / folder, _outputs(root, split)[0]
    if shifted.is_dir() and not labels.is_dir():
        labels, values = shifted, value_table(range(len(categories.ids)), void=[255])
    else:
        values = value_table(categories.ids, void=[0])
    pairs, problems = pair_files(images, labels)
    return LabelImages(
        "ade20k",
        categories.table,
        pairs,
        values,
        problems=problems,
        skip_errors=config.on_error == "skip",
        where=f"{images} holds no image with a label in {labels}",
    )


def _outputs(root: Path, split: str) -> list[Path]:
    return [root / "annotations_detectron2" / FOLDERS[split]]


def _write(dataset: Any, root: Path, split: str) -> WriteLabels:
    from maskformer_ext.data.preparing.writers import WriteLabels, working_folder

    return WriteLabels(dataset, working_folder(_outputs(root, split)[0]))


DESCRIPTION = Description(
    title="ADE20K, 150 classes",
    tasks=("semantic",),
    usual_task="semantic",
    build=build,
    folder="ADEChallengeData2016",
    distribution=Distribution(
        download="ADEChallengeData2016.zip from sceneparsing.csail.mit.edu",
        table="ade20k",
        images={"train": 20210, "val": 2000},
        needs={
            "images/training": "training images",
            "images/validation": "validation images",
            "annotations/training or annotations_detectron2/training": "label images of the training images",
            "annotations/validation or annotations_detectron2/validation": "label images of the validation images",
        },
        aliases=("ade20k_150",),
    ),
    conversion=Conversion("label images that count from 0", False, "semantic", _outputs, _write),
)
