"""Images with a label image each: finding the partners, reading both, one sentence for whatever does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from maskformer_ext.data.types import DatasetInfo, Sample
from maskformer_ext.decoding import EXTENSIONS, open_image, upright
from maskformer_ext.errors import UserError
from maskformer_ext.images import read_image

LABEL_EXTENSIONS = (".png", ".tif", ".tiff", ".bmp", ".pgm")
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

    def __init__(self, pairs: list[Pair], problems: Sequence[str], *, skip_errors: bool, where: str) -> None:
        self.pairs, self.problems = pairs, list(problems)
        if self.problems and not skip_errors:
            raise UserError(self.problems[0])
        if not self.pairs:
            raise UserError(f"{where}: {self.problems[0] if problems else 'put images of the same names in both.'}")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        name, image_path, label_path = self.pairs[index]
        image, label = self.read(image_path, label_path)
        check_same_size(label_path, label.shape[:2], image_path, tuple(image.shape[-2:]))
        segment_map, labels = self.segments(label, label_path)
        size = (label.shape[0], label.shape[1])
        return Sample(image, torch.from_numpy(segment_map), torch.from_numpy(labels), name, size)

    def read(self, image: Path, label: Path) -> tuple[torch.Tensor, np.ndarray]:
        """Read an image (3, H, W) uint8 and its labels (H, W) or (H, W, C)."""
        return read_image(image), read_label(label)

    def segments(self, label: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Turn labels into segment_map (H, W) int32 and labels (T,) int64."""
        raise NotImplementedError


def check_same_size(label: Path, label_size: Sequence[int], image: Path, image_size: Sequence[int]) -> None:
    """Raise a ``UserError`` that names both files if their (height, width) differ."""
    if tuple(label_size) != tuple(image_size):
        raise UserError(
            f"{label} is {label_size[1]}x{label_size[0]} pixels, but its image {image} is "
            f"{image_size[1]}x{image_size[0]}: both must have the same size."
        )


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
        (name, image, label) of each pair, by name; and one sentence for each file without partner.

    Raises:
        UserError: if a folder is missing or one name occurs twice.
    """
    found = [_files_by_name(images, image_ending, EXTENSIONS), _files_by_name(labels, label_ending, LABEL_EXTENSIONS)]
    problems = [
        f"{found[0][name]} has no label: expected {labels / name}{label_ending or '.png'}."
        for name in sorted(found[0].keys() - found[1].keys())
    ]
    problems += [
        f"{found[1][name]} has no image: expected {images / name}{image_ending or ' with an image extension'}."
        for name in sorted(found[1].keys() - found[0].keys())
    ]
    return [(name, found[0][name], found[1][name]) for name in sorted(found[0].keys() & found[1].keys())], problems


def _files_by_name(folder: Path, ending: str, extensions: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"the folder {folder} is missing: check data.root and the paths below it in the configuration.")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob(f"*{ending}")):
        if (ending or path.suffix.lower() in extensions) and not path.name.startswith("."):
            cut = ending or path.suffix
            name = path.relative_to(folder).as_posix().removesuffix(cut)
            if name in files:
                raise UserError(f"{files[name]} and {path} have the same name: keep one of them.")
            files[name] = path
    return files


def read_label(path: Path) -> np.ndarray:
    """Read a label image: one channel of 8 or 16 bit; of a palette image the indices, not the colours.

    Returns:
        (H, W) uint8 or uint16.

    Raises:
        UserError: if the file is damaged or has several channels.
    """
    with open_image(path, "a label image") as opened:
        image = upright(opened)
        if image.mode in ("L", "P", "1"):
            return np.array(image, np.uint8)
        if not image.mode.startswith("I"):
            raise UserError(f"{path} has the mode {image.mode}: a label image must have one channel of 8 or 16 bit.")
        label = np.array(image)
    if label.min() < 0 or label.max() > np.iinfo(np.uint16).max:
        raise UserError(f"{path} holds labels from {label.min()} to {label.max()}: they must be within 0 and 65535.")
    return label.astype(np.uint16)


def read_color_ids(path: Path) -> np.ndarray:
    """Read a label image whose colours are numbers: R + 256 G + 65536 B.

    Returns:
        (H, W) uint32.

    Raises:
        UserError: if the file does not exist, is damaged or has not three channels of 8 bit.
    """
    with open_image(path, "a label image") as opened:
        if opened.mode != "RGB":
            raise UserError(f"{path} has the mode {opened.mode}: its colours must be ids, so it must be RGB.")
        image = upright(opened)
        size, pixels = image.size, image.tobytes("raw", "RGBX")
    return np.frombuffer(pixels, "<u4").reshape(size[1], size[0]) & np.uint32(0xFFFFFF)
