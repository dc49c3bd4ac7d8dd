"""Mapillary Vistas with the 65 classes of version 1.2 that are evaluated."""

from __future__ import annotations

from pathlib import Path

from maskformer_ext.data.pairs import pair_files
from maskformer_ext.data.semantic import LabelImages, value_table
from maskformer_ext.data.tables import VOID_VALUES, load_categories

FOLDERS = {"train": "training", "val": "validation"}
VOID_LABEL = VOID_VALUES["mapillary_vistas"]  # "Unlabeled", the last entry of the palette


def mapillary_vistas(root: Path, split: str, *, skip_errors: bool = False) -> LabelImages:
    """Return a split of Mapillary Vistas: ``training`` and ``validation``, with ``images`` and ``labels`` in each.

    The download of version 2.0 has the labels of 1.2 in ``v1.2/labels``; they are read where there is no ``labels``.

    Args:
        root: the folder that holds both.
        split: "train" or "val".
        skip_errors: leave out files without partner instead of raising.
    """
    categories, folder = load_categories("mapillary_vistas"), root / FOLDERS[split]
    images, labels = folder / "images", folder / "labels"
    if not labels.is_dir() and (folder / "v1.2" / "labels").is_dir():
        labels = folder / "v1.2" / "labels"
    pairs, problems = pair_files(images, labels)
    return LabelImages(
        "mapillary_vistas",
        categories.table,
        pairs,
        value_table(categories.ids, void=[VOID_LABEL]),
        ignore_label=VOID_LABEL,
        problems=problems,
        skip_errors=skip_errors,
        where=f"{images} holds no image with a label in {labels}",
    )
