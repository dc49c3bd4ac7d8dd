"""COCO-Stuff-10K v1.0: 9,000 + 1,000 photographs with 171 classes, labels in MATLAB files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Conversion, Description, Distribution
from maskformer_ext.data.listing import find_file
from maskformer_ext.data.tables import load_categories
from maskformer_ext.errors import UserError
from maskformer_ext.files import read_text

if TYPE_CHECKING:
    from maskformer_ext.data.preparing.writers import WriteLabels
    from maskformer_ext.data.readers.label_images import LabelImages

_FOLDERS = {"train": "train", "val": "test"}


def build(config: DataConfig, root: Path, split: str) -> LabelImages:
    """Return a split, named by a list: ``imageLists/train.txt`` or ``test.txt``. The test images stand for "val".

    Labels are ``annotations/NAME.mat`` (1 = unlabelled, which is void, and 2 to 172). Where they exist for the whole
    split, ``annotations_detectron2/train/NAME.png`` (0 to 170, 255) are read instead, as they load faster.
    """
    from maskformer_ext.data.formats.matlab import read_matlab_labels
    from maskformer_ext.data.readers.label_images import LabelImages, value_table

    categories, folder = load_categories("coco_stuff_10k"), _FOLDERS[split]
    images, labels, converted = root / "images", root / "annotations", _outputs(root, split)[0]
    names = read_list(root / "imageLists" / f"{folder}.txt")
    photographs = [find_file(images, f"{name}.jpg", f"{name}.JPG", f"{name}.jpeg") for name in names]
    shifted = [find_file(converted, f"{name}.png", f"{name}.PNG") for name in names if converted.is_dir()]
    faster = bool(shifted) and all(os.path.isfile(path) for path in shifted)
    if faster:
        files, values = shifted, value_table(range(len(categories.ids)), void=[255])
    else:
        files = [find_file(labels, f"{name}.mat", f"{name}.MAT") for name in names]
        values = value_table(categories.ids, void=[1])
    pairs = list(zip(names, photographs, files, strict=True))
    missing = {name: path for name, *paths in pairs for path in paths if not os.path.isfile(path)}
    return LabelImages(
        "coco_stuff_10k",
        categories.table,
        [pair for pair in pairs if pair[0] not in missing],
        values,
        read_file=None if faster else read_matlab_labels,
        problems=[f"{path} is missing, but the list of {folder} images names it." for path in missing.values()],
        skip_errors=config.on_error == "skip",
        where=f"{images} holds no image of the list of {folder} images",
    )


def read_list(path: Path) -> list[str]:
    """Return the names in a text file, one per line.

    Raises:
        UserError: if the file is missing or empty.
    """
    text = read_text(path, "a list of images") if os.path.isfile(path) else ""
    names = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not names:
        raise UserError(f"{path} {'is empty' if path.is_file() else 'is missing'}: it lists the images of the split.")
    return names


def _outputs(root: Path, split: str) -> list[Path]:
    return [root / "annotations_detectron2" / _FOLDERS[split]]


def _write(dataset: Any, root: Path, split: str) -> WriteLabels:
    from maskformer_ext.data.preparing.writers import WriteLabels, working_folder

    return WriteLabels(dataset, working_folder(_outputs(root, split)[0]))


DESCRIPTION = Description(
    title="COCO-Stuff-10K, 171 classes",
    tasks=("semantic",),
    usual_task="semantic",
    build=build,
    folder="coco_stuff_10k",
    distribution=Distribution(
        download="cocostuff-10k-v1.0.zip, linked from github.com/nightrome/cocostuff10k",
        table="coco_stuff_10k",
        images={"train": 9000, "val": 1000},
        needs={
            "images": "photographs",
            "annotations or annotations_detectron2": "labels",
            "imageLists/train.txt": "names of the training images",
            "imageLists/test.txt": "names of the test images",
        },
        aliases=("coco_stuff_10k_171",),
    ),
    conversion=Conversion("PNGs of the MATLAB files", True, "semantic", _outputs, _write),
)
