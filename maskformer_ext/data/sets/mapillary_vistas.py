"""Mapillary Vistas with the 65 classes of version 1.2 that are evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Description, Distribution
from maskformer_ext.data.tables import load_categories

if TYPE_CHECKING:
    from maskformer_ext.data.readers.label_images import LabelImages

_FOLDERS = {"train": "training", "val": "validation"}
_VOID_LABEL = 65  # "Unlabeled", the last entry of the palette


def build(config: DataConfig, root: Path, split: str) -> LabelImages:
    """Return a split: ``training`` and ``validation`` below the root, with ``images`` and ``labels`` in each.

    The download of version 2.0 has the labels of 1.2 in ``v1.2/labels``; they are read where there is no ``labels``.
    """
    from maskformer_ext.data.readers.label_images import LabelImages, value_table
    from maskformer_ext.data.readers.pairs import pair_files

    categories, folder = load_categories("mapillary_vistas"), root / _FOLDERS[split]
    images, labels = folder / "images", folder / "labels"
    if not labels.is_dir() and (folder / "v1.2" / "labels").is_dir():
        labels = folder / "v1.2" / "labels"
    pairs, problems = pair_files(images, labels)
    return LabelImages(
        "mapillary_vistas",
        categories.table,
        pairs,
        value_table(categories.ids, void=[_VOID_LABEL]),
        ignore_label=_VOID_LABEL,
        problems=problems,
        skip_errors=config.on_error == "skip",
        where=f"{images} holds no image with a label in {labels}",
    )


DESCRIPTION = Description(
    title="Mapillary Vistas, 65 classes",
    tasks=("semantic",),
    usual_task="semantic",
    build=build,
    folder="mapillary_vistas",
    distribution=Distribution(
        download="www.mapillary.com/dataset/vistas",
        table="mapillary_vistas",
        images={"train": 18000, "val": 2000},
        needs={
            "training/images": "training images",
            "training/labels or training/v1.2/labels": "labels of the training images",
            "validation/images": "validation images",
            "validation/labels or validation/v1.2/labels": "labels of the validation images",
        },
        aliases=("mapillary_vistas_65",),
        ignore_label=_VOID_LABEL,
    ),
)
