"""Data sets in folders: images beside integer label images (semantic) or instance-id images (instance, panoptic)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from maskformer_ext.data.classes import ClassTable
from maskformer_ext.data.targets import merge_classes, segments_from_ids
from maskformer_ext.data.types import DatasetInfo, Sample
from maskformer_ext.errors import UserError
from maskformer_ext.images import EXTENSIONS, read_image
from maskformer_ext.ops.targets import VOID

LABEL_EXTENSIONS = (".png", ".tif", ".tiff", ".bmp", ".pgm")


class _PairedFolders(Dataset):
    """Images and label images of the same names in two folders; what a label means is up to the subclass."""

    info: DatasetInfo

    def __init__(self, images: Path, labels: Path, *, skip_errors: bool = False) -> None:
        self.pairs, self.problems = pair_files(images, labels)
        if self.problems and not skip_errors:
            raise UserError(self.problems[0])
        if not self.pairs:
            raise UserError(f"{images} holds no image with a label in {labels}: put images of the same names in both.")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        name, image_path, label_path = self.pairs[index]
        image = read_image(image_path)
        label = read_label(label_path)
        if tuple(image.shape[-2:]) != label.shape:
            raise UserError(
                f"{label_path} is {label.shape[1]}x{label.shape[0]} pixels, but its image {image_path} is "
                f"{image.shape[-1]}x{image.shape[-2]}: both must have the same size."
            )
        segment_map, labels = self.segments(label, label_path)
        size = (label.shape[0], label.shape[1])
        return Sample(image, torch.from_numpy(segment_map), torch.from_numpy(labels), name, size)

    def segments(self, label: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Turn a label image (H, W) into segment_map (H, W) int32 and labels (T,) int64."""
        raise NotImplementedError


class SemanticFolder(_PairedFolders):
    """Semantic segmentation from label images that hold class ids.

    Args:
        images: the folder of images.
        labels: the folder of label images: 8 or 16 bit, one channel, 0 for the first class.
        table: the classes; a void value given there comes before ``ignore_label``.
        name: what reports call the data set.
        ignore_label: the value of pixels where nothing is known.
        skip_errors: leave out files without partner instead of raising; ``problems`` lists them.

    Raises:
        UserError: if a folder is missing or empty, or files have no partner. Reading an item raises it if a file is
            damaged, sizes differ or a label is no class.
    """

    def __init__(
        self,
        images: Path,
        labels: Path,
        table: ClassTable,
        *,
        name: str = "semantic_folder",
        ignore_label: int = 255,
        skip_errors: bool = False,
    ) -> None:
        void = ignore_label if table.ignore_label is None else table.ignore_label
        if void < len(table.classes):
            raise UserError(f"data.ignore_label must not be one of the {len(table.classes)} class ids, got {void}.")
        self.info = DatasetInfo(name, table.classes, table.colors, (), void)
        super().__init__(images, labels, skip_errors=skip_errors)

    def segments(self, label: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
        classes, void = self.info.num_classes, self.info.ignore_label
        class_of_id = np.full(max(int(label.max()), void) + 1, VOID, np.int64)
        class_of_id[:classes] = np.arange(classes)
        unknown = (label >= classes) & (label != void)
        if unknown.any():
            raise UserError(
                f"{path} holds the label {label[unknown].max()}, but the classes are 0 to {classes - 1} and "
                f"void is {void}: correct the image, the classes file or data.ignore_label."
            )
        return segments_from_ids(label, class_of_id)


class InstanceFolder(_PairedFolders):
    """Instance, panoptic or semantic segmentation from label images that hold instance ids.

    A pixel is 0 where there is no instance. With one thing class, other values are any ids that differ between
    instances. With an ``id_divisor`` in the classes file, they are class number (from 1) x divisor + instance number.

    Args:
        images: the folder of images.
        labels: the folder of label images, 8 or 16 bit, one channel.
        table: the classes, which of them are things, and what 0 means.
        task: "instance" (things only, all else is void), "panoptic" (each instance, and one segment a stuff class) or
            "semantic" (one segment a class).
        name: what reports call the data set.
        skip_errors: leave out files without partner instead of raising; ``problems`` lists them.

    Raises:
        UserError: as for `SemanticFolder`, and if the classes file cannot tell several thing classes apart.
    """

    def __init__(
        self,
        images: Path,
        labels: Path,
        table: ClassTable,
        *,
        task: str = "instance",
        name: str = "instance_folder",
        skip_errors: bool = False,
    ) -> None:
        if not table.things:
            raise UserError(f'{name}: the classes file must name at least one thing class under "things".')
        if not table.id_divisor and len(table.things) > 1:
            raise UserError(
                f'{name}: {len(table.things)} thing classes need "id_divisor" in the classes file: with 1000, '
                "2003 is the third instance of the second class."
            )
        self.table, self.task = table, task
        kept = table.things if task == "instance" else tuple(range(len(table.classes)))
        things = () if task == "semantic" else tuple(kept.index(thing) for thing in table.things)
        self.info = DatasetInfo(
            name, tuple(table.classes[c] for c in kept), tuple(table.colors[c] for c in kept), things
        )
        self._new_class = np.full(len(table.classes), VOID, np.int64)
        self._new_class[list(kept)] = np.arange(len(kept))
        super().__init__(images, labels, skip_errors=skip_errors)

    def segments(self, label: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
        class_of_id = self._classes_of_ids(label, path)
        representative = np.arange(len(class_of_id))
        class_of_id = np.where(class_of_id == VOID, VOID, self._new_class[class_of_id])
        if self.task == "semantic":
            return merge_classes(*segments_from_ids(label, class_of_id))
        for stuff in set(range(self.info.num_classes)) - set(self.info.thing_classes):  # one segment, whatever the id
            members = np.flatnonzero(class_of_id == stuff)
            representative[members] = members[:1]
        return segments_from_ids(representative[label], class_of_id)

    def _classes_of_ids(self, label: np.ndarray, path: Path) -> np.ndarray:
        """Return the class of each id up to the largest, in the classes file's numbering, VOID for none."""
        divisor, background = self.table.id_divisor, self.table.background
        numbers = np.arange(int(label.max()) + 1)
        if divisor:
            class_of_id = numbers // divisor - 1
            unknown = (label > 0) & ((label < divisor) | (label >= (len(self.table.classes) + 1) * divisor))
            if unknown.any():
                raise UserError(
                    f"{path} holds the id {label[unknown].max()}, but ids must be class number (1 to "
                    f'{len(self.table.classes)}) x {divisor} + instance number ("id_divisor" of the classes file).'
                )
        else:
            class_of_id = np.full(len(numbers), self.table.things[0])
        class_of_id[0] = VOID if background is None else background
        return class_of_id


def pair_files(images: Path, labels: Path) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """Match images and labels by their path without extension, subfolders included.

    Args:
        images: the folder of images.
        labels: the folder of label images.

    Returns:
        (name, image, label) of each pair, by name; and one sentence for each file without partner.

    Raises:
        UserError: if a folder is missing or one name occurs twice.
    """
    found = [_files_by_name(images, EXTENSIONS), _files_by_name(labels, LABEL_EXTENSIONS)]
    problems = [
        f"{found[0][name]} has no label: expected {labels / name}.png."
        for name in sorted(found[0].keys() - found[1].keys())
    ]
    problems += [
        f"{found[1][name]} has no image: expected {images / name} with an image extension."
        for name in sorted(found[1].keys() - found[0].keys())
    ]
    return [(name, found[0][name], found[1][name]) for name in sorted(found[0].keys() & found[1].keys())], problems


def _files_by_name(folder: Path, extensions: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"the folder {folder} is missing: check data.root and the paths below it in the configuration.")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in extensions and not path.name.startswith("."):
            name = path.relative_to(folder).with_suffix("").as_posix()
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
    try:
        with Image.open(path) as image:
            if image.mode in ("L", "P", "1"):
                return np.array(image, np.uint8)
            if not image.mode.startswith("I"):
                raise UserError(
                    f"{path} has the mode {image.mode}: a label image must have one channel of 8 or 16 bit."
                )
            label = np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as a label image ({error}).") from None
    if label.min() < 0 or label.max() > np.iinfo(np.uint16).max:
        raise UserError(f"{path} holds labels from {label.min()} to {label.max()}: they must be within 0 and 65535.")
    return label.astype(np.uint16)
