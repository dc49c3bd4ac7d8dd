"""Images with a label image each: finding the partners, reading both, and one sentence for whatever does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from maskformer_ext.data.formats.labels import read_label
from maskformer_ext.data.listing import composed, list_files
from maskformer_ext.data.types import DatasetInfo, Sample
from maskformer_ext.errors import UserError, printable
from maskformer_ext.media.extensions import EXTENSIONS, LABEL_EXTENSIONS
from maskformer_ext.media.images import read_image

Pair = tuple[str, Path, Path]


class PairedImages(Dataset):
    """Images with a label image each; what a label means is up to the subclass.

    Args:
        pairs: name, image and label image of each sample.
        problems: one sentence for each file that is left out.
        skip_errors: keep the problems in ``problems`` instead of raising the first.
        where: the folders, for the error where there is no pair.

    Raises:
        UserError: if there are problems or no pairs. Reading an item raises it if a file is damaged or sizes differ.
    """

    info: DatasetInfo
    exif: bool = True  # turn images and labels as their orientation says

    def __init__(self, pairs: list[Pair], problems: Sequence[str], *, skip_errors: bool, where: str) -> None:
        self.pairs, self.problems = pairs, [printable(problem) for problem in problems]
        if self.problems and not skip_errors:
            raise UserError(self.problems[0])
        if not self.pairs:
            why = self.problems[0] if problems else "put images of the same names in both."
            raise UserError(why if why.startswith(where) else f"{where}: {why}")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        name, image_path, label_path = self.pairs[index]
        image, label = self.read(image_path, label_path)
        check_same_size(label_path, label.shape[:2], image_path, tuple(image.shape[-2:]))
        segment_map, labels = self.segments(label, label_path)
        size = (label.shape[0], label.shape[1])
        return Sample(image, segment_map, labels, name, size)

    def image_file(self, index: int) -> Path:
        """Return the file of an image."""
        return self.pairs[index][1]

    def read(self, image: Path, label: Path) -> tuple[torch.Tensor, np.ndarray]:
        """Read an image (3, H, W) uint8 and its labels (H, W) or (H, W, C)."""
        return read_image(image, exif=self.exif), self.read_labels(label)

    def read_labels(self, path: Path) -> np.ndarray:
        """Read a label image alone, (H, W) or (H, W, C)."""
        return read_label(path, exif=self.exif)

    def segments(self, label: np.ndarray, path: Path) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn labels into segment_map (H, W) int32 and labels (T,) int64, tensors from here on."""
        raise NotImplementedError


def check_same_size(label: Path, label_size: Sequence[int], image: Path, image_size: Sequence[int]) -> None:
    """Raise a ``UserError`` that names both files if their (height, width) differ."""
    if tuple(label_size) != tuple(image_size):
        raise UserError(
            f"{label} is {label_size[1]}x{label_size[0]} pixels, but its image {image} is "
            f"{image_size[1]}x{image_size[0]}: both must have the same size."
            f"{turned_hint(label_size, image_size)}"
        )


def turned_hint(size: Sequence[int], other: Sequence[int]) -> str:
    """Return what to say of two sizes that are each other's, turned; nothing for other sizes."""
    if tuple(size) != tuple(other)[::-1]:
        return ""
    return " One of them is turned: for labels drawn on the raw image set data.exif=false."


def pair_files(
    images: Path, labels: Path, *, image_ending: str = "", label_ending: str = ""
) -> tuple[list[Pair], list[str]]:
    """Match images and labels by their path without ending, subfolders included.

    Args:
        images: the folder of images.
        labels: the folder of label images.
        image_ending: how the names of images end, such as "_leftImg8bit.png"; "": any extension of an image.
        label_ending: how the names of label images end; "": any extension of a label image.

    Returns:
        (name, image, label) of each pair, by name; and one sentence for each file without partner. What is passed over
        is logged in one line per folder, unless an ending is given.

    Raises:
        UserError: if a folder is missing or cannot be read, or one name occurs twice.
    """
    found = list_files(images, EXTENSIONS, ending=image_ending)
    labelled = list_files(labels, LABEL_EXTENSIONS, ending=label_ending)
    if images.resolve() == labels.resolve() and label_ending:  # a.jpg beside a_mask.png
        own = set(labelled.files.values())
        found.files = {name: path for name, path in found.files.items() if path not in own}
    if not (image_ending or label_ending):
        found.report()
        labelled.report()
    unread = {composed(str(Path(other).with_suffix(""))): other for other in labelled.of_other_kinds()}
    problems = [
        f"{found.files[name]} has no label: expected {labels / name}{label_ending or '.png'}"
        + (f" ({labels / unread[name]} is there, but labels must be PNG, TIFF, BMP or PGM)." if name in unread else ".")
        for name in sorted(found.files.keys() - labelled.files.keys())
    ]
    problems += [
        f"{labelled.files[name]} has no image: expected {images / name}{image_ending or ' with an image extension'}."
        for name in sorted(labelled.files.keys() - found.files.keys())
    ]
    both = sorted(found.files.keys() & labelled.files.keys())
    return [(name, found.files[name], labelled.files[name]) for name in both], problems
