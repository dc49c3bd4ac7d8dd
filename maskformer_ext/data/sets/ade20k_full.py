"""ADE20K with its full vocabulary (ADE20K_2021_17_01): the 847 classes that are frequent enough."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Conversion, Description, Distribution
from maskformer_ext.data.sets.ade20k import FOLDERS
from maskformer_ext.data.tables import load_categories

if TYPE_CHECKING:
    from maskformer_ext.data.preparing.writers import WriteFlat
    from maskformer_ext.data.readers.label_images import LabelImages

IGNORE_LABEL = 65535
_IDS = 26 * 256  # (R // 10) * 256 + G is below


def build(config: DataConfig, root: Path, split: str) -> LabelImages:
    """Return a split: photographs with a ``_seg.png`` beside each, in any subfolder of ``images/ADE`` below the root.

    Files converted before are read where they exist: ``images_detectron2`` and ``annotations_detectron2`` (16-bit
    TIFF, 65535 = void). The index, a pickle, is never opened.
    """
    from maskformer_ext.data.readers.ade20k_full import Ade20kFull
    from maskformer_ext.data.readers.label_images import LabelImages, value_table
    from maskformer_ext.data.readers.pairs import pair_files

    categories, reader = load_categories("ade20k_full"), LabelImages
    images, labels = _outputs(root, split)
    if images.is_dir() and labels.is_dir():
        pairs, problems = pair_files(images, labels)
        values = value_table(range(len(categories.ids)), void=[IGNORE_LABEL], size=IGNORE_LABEL + 1)
    else:
        reader, images = Ade20kFull, root / "images" / "ADE" / FOLDERS[split]
        labels = images
        pairs, problems = pair_files(images, labels, image_ending=".jpg", label_ending="_seg.png")
        values = value_table(categories.ids, void=range(_IDS), size=_IDS)
    return reader(
        "ade20k_full",
        categories.table,
        pairs,
        values,
        ignore_label=IGNORE_LABEL,
        problems=problems,
        skip_errors=config.on_error == "skip",
        where=f"{images} holds no image with a label in {labels}",
    )


def _outputs(root: Path, split: str) -> list[Path]:
    return [root / "images_detectron2" / FOLDERS[split], root / "annotations_detectron2" / FOLDERS[split]]


def _write(dataset: Any, root: Path, split: str) -> WriteFlat:
    from maskformer_ext.data.preparing.writers import WriteFlat, working_folder

    images, labels = (working_folder(path) for path in _outputs(root, split))
    return WriteFlat(dataset, labels, ".tif", images)


DESCRIPTION = Description(
    title="ADE20K with its full vocabulary, 847 classes",
    tasks=("semantic",),
    usual_task="semantic",
    build=build,
    folder="ADE20K_2021_17_01",
    distribution=Distribution(
        download="ADE20K_2021_17_01.zip from groups.csail.mit.edu/vision/datasets/ADE20K",
        table="ade20k_full",
        images={"train": 25574, "val": 2000},
        needs={
            "images/ADE/training or images_detectron2/training": "training images with their _seg.png",
            "images/ADE/validation or images_detectron2/validation": "validation images with their _seg.png",
        },
        aliases=("ade20k_full_847",),
        ignore_label=IGNORE_LABEL,
    ),
    conversion=Conversion("shrunk images and 16-bit label images", True, "semantic", _outputs, _write),
)
