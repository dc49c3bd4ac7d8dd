"""Cityscapes with the 19 classes that are evaluated, finely annotated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Conversion, Description, Distribution
from maskformer_ext.data.tables import load_categories

if TYPE_CHECKING:
    from maskformer_ext.data.preparing.writers import WriteBeside
    from maskformer_ext.data.readers.label_images import LabelImages

_IMAGE_ENDING = "_leftImg8bit.png"
_LABEL_ENDING = "_gtFine_labelIds.png"
_TRAIN_LABEL_ENDING = "_gtFine_labelTrainIds.png"
_LABEL_IDS = 34  # how many numbers Cityscapes' own tables give; the other 15 are not evaluated


def build(config: DataConfig, root: Path, split: str) -> LabelImages:
    """Return a split: ``leftImg8bit`` and ``gtFine`` below the root, with ``train/CITY`` and ``val/CITY`` in each.

    ``labelTrainIds`` (0 to 18, 255) are read where every image has them, otherwise ``labelIds`` (0 to 33). Those of
    the latter that are not evaluated are void.
    """
    from maskformer_ext.data.readers.label_images import LabelImages, value_table
    from maskformer_ext.data.readers.pairs import pair_files

    categories = load_categories("cityscapes")
    images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
    pairs, problems = pair_files(images, labels, image_ending=_IMAGE_ENDING, label_ending=_TRAIN_LABEL_ENDING)
    values = value_table(range(len(categories.ids)), void=[255])
    if problems or not pairs:
        pairs, problems = pair_files(images, labels, image_ending=_IMAGE_ENDING, label_ending=_LABEL_ENDING)
        values = value_table(categories.ids, void=range(_LABEL_IDS))
    return LabelImages(
        "cityscapes",
        categories.table,
        pairs,
        values,
        problems=problems,
        skip_errors=config.on_error == "skip",
        where=f"{images} holds no {_IMAGE_ENDING[1:]} with a label in {labels}",
    )


def _in_place(root: Path, split: str) -> list[Path]:
    return []


def _write(dataset: Any, root: Path, split: str) -> WriteBeside:
    from maskformer_ext.data.preparing.writers import WriteBeside

    return WriteBeside(dataset, (_LABEL_ENDING, _TRAIN_LABEL_ENDING), _TRAIN_LABEL_ENDING)


DESCRIPTION = Description(
    title="Cityscapes, 19 classes",
    tasks=("semantic",),
    usual_task="semantic",
    build=build,
    folder="cityscapes",
    distribution=Distribution(
        download="www.cityscapes-dataset.com",
        table="cityscapes",
        images={"train": 2975, "val": 500},
        needs={
            "leftImg8bit/train": "training images (leftImg8bit_trainvaltest.zip)",
            "leftImg8bit/val": "validation images (leftImg8bit_trainvaltest.zip)",
            "gtFine/train": "labels of the training images (gtFine_trainvaltest.zip)",
            "gtFine/val": "labels of the validation images (gtFine_trainvaltest.zip)",
        },
        aliases=("cityscapes_19",),
    ),
    conversion=Conversion("labelTrainIds beside the labelIds", False, "semantic", _in_place, _write),
)
