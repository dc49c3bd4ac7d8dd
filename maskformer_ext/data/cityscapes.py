"""Cityscapes with the 19 classes that are evaluated, finely annotated."""

from __future__ import annotations

from pathlib import Path

from maskformer_ext.data.pairs import pair_files
from maskformer_ext.data.semantic import LabelImages, value_table
from maskformer_ext.data.tables import load_categories

IMAGE_ENDING = "_leftImg8bit.png"
LABEL_ENDING = "_gtFine_labelIds.png"
TRAIN_LABEL_ENDING = "_gtFine_labelTrainIds.png"
_LABEL_IDS = 34  # how many numbers Cityscapes' own tables give; the other 15 are not evaluated


def cityscapes(root: Path, split: str, *, skip_errors: bool = False) -> LabelImages:
    """Return a split of Cityscapes: ``leftImg8bit`` and ``gtFine`` below, with ``train/CITY`` and ``val/CITY`` in each.

    ``labelTrainIds`` (0 to 18, 255) are read where every image has them, otherwise ``labelIds`` (0 to 33), of which
    those that are not evaluated are void.

    Args:
        root: the folder that holds both.
        split: "train" or "val".
        skip_errors: leave out files without partner instead of raising.
    """
    categories = load_categories("cityscapes")
    images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
    pairs, problems = pair_files(images, labels, image_ending=IMAGE_ENDING, label_ending=TRAIN_LABEL_ENDING)
    values = value_table(range(len(categories.ids)), void=[255])
    if problems or not pairs:
        pairs, problems = pair_files(images, labels, image_ending=IMAGE_ENDING, label_ending=LABEL_ENDING)
        values = value_table(categories.ids, void=range(_LABEL_IDS))
    where = f"{images} holds no {IMAGE_ENDING[1:]} with a label in {labels}"
    return LabelImages(
        "cityscapes", categories.table, pairs, values, problems=problems, skip_errors=skip_errors, where=where
    )
