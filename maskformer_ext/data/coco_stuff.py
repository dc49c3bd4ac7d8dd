"""COCO-Stuff-10K v1.0: 9,000 + 1,000 photographs with 171 classes, labels in MATLAB files."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from torch import Tensor

from maskformer_ext.data.listing import find_file
from maskformer_ext.data.semantic import LabelImages, value_table
from maskformer_ext.data.tables import load_categories
from maskformer_ext.errors import UserError, why
from maskformer_ext.files import read_text
from maskformer_ext.media.images import read_image

FOLDERS = {"train": "train", "val": "test"}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MOST_PIXELS = 1 << 28  # a header can claim any size
_USER_BLOCK = 512  # bytes that MATLAB 7.3 writes before the HDF5 file begins


class CocoStuff(LabelImages):
    """A split of COCO-Stuff-10K, named by a list: ``imageLists/train.txt`` or ``test.txt``.

    Labels are ``annotations/NAME.mat`` (1 = unlabelled, which is void, and 2 to 172), or where they exist for the whole
    split ``annotations_detectron2/train/NAME.png`` (0 to 170, 255), which load faster.

    Args:
        root: the folder that holds ``images``, ``annotations`` and ``imageLists``.
        split: "train" or "val", for which the test images stand.
        skip_errors: leave out images that are missing instead of raising.
    """

    def __init__(self, root: Path, split: str, *, skip_errors: bool = False) -> None:
        categories, folder = load_categories("coco_stuff_10k"), FOLDERS[split]
        converted = root / "annotations_detectron2" / folder
        names = read_list(root / "imageLists" / f"{folder}.txt")
        images, labels = root / "images", root / "annotations"
        found = {name: find_file(images, f"{name}.jpg", f"{name}.JPG", f"{name}.jpeg") for name in names}
        pairs = [(name, found[name], find_file(labels, f"{name}.mat", f"{name}.MAT")) for name in names]
        values = value_table(categories.ids, void=[1])
        shifted = [find_file(converted, f"{name}.png", f"{name}.PNG") for name in names if converted.is_dir()]
        if shifted and all(os.path.isfile(path) for path in shifted):
            pairs = [(name, image, label) for (name, image, _), label in zip(pairs, shifted, strict=True)]
            values = value_table(range(len(categories.ids)), void=[255])
        missing = {name: path for name, *paths in pairs for path in paths if not os.path.isfile(path)}
        problems = [f"{path} is missing, but the list of {folder} images names it." for path in missing.values()]
        super().__init__(
            "coco_stuff_10k",
            categories.table,
            [pair for pair in pairs if pair[0] not in missing],
            values,
            problems=problems,
            skip_errors=skip_errors,
            where=f"{root / 'images'} holds no image of the list of {folder} images",
        )

    def read(self, image: Path, label: Path) -> tuple[Tensor, np.ndarray]:
        """Read an image, and labels from either kind of file."""
        if label.suffix == ".mat":
            return read_image(image, exif=self.exif), read_matlab_labels(label)
        return super().read(image, label)


def read_list(path: Path) -> list[str]:
    """Return the names in a text file, one a line.

    Raises:
        UserError: if the file is missing or empty.
    """
    text = read_text(path, "a list of images") if os.path.isfile(path) else ""
    names = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not names:
        raise UserError(f"{path} {'is empty' if path.is_file() else 'is missing'}: it lists the images of the split.")
    return names


def read_matlab_labels(path: Path) -> np.ndarray:
    """Read the variable S of a MATLAB 7.3 file.

    Returns:
        (H, W) uint8, as stored.

    Raises:
        UserError: if it is another file, is damaged, or h5py is not installed.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_USER_BLOCK + len(_HDF5))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {why(error)}") from None
    if _HDF5 not in (start[: len(_HDF5)], start[_USER_BLOCK:]):
        raise UserError(f"{path} is no MATLAB 7.3 (HDF5) file: expected the labels of COCO-Stuff-10K version 1.0.")
    try:
        import h5py
    except ImportError:
        raise UserError(f"{path} can be read only with h5py: pip install h5py.") from None
    try:
        with h5py.File(path, "r") as content:
            variable = content["S"]
            if not 0 < math.prod(variable.shape) <= _MOST_PIXELS or variable.dtype.kind not in "uifb":
                raise ValueError(f"it has the shape {variable.shape} and the type {variable.dtype}")
            label = np.array(variable).T  # MATLAB stores columns first
    except Exception as error:  # h5py raises nearly everything for a damaged file
        raise UserError(f"{path}: the variable S cannot be read ({why(error)}).") from None
    if label.ndim != 2 or not (label.min() >= 0 and label.max() <= 255) or (label % 1).any():
        raise UserError(
            f"{path}: the variable S must be a map of whole numbers within 0 and 255, got shape {label.shape}."
        )
    return label.astype(np.uint8)
