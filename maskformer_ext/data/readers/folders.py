"""Data sets in folders: images beside integer label images (semantic) or instance-id images (instance, panoptic)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.data.classes import ClassTable, color_number, color_of, void_id
from maskformer_ext.data.formats.labels import read_color_ids, read_palette
from maskformer_ext.data.readers.pairs import Pair, PairedImages, pair_files
from maskformer_ext.data.targets import count_ids, ids_tensor, segments_from_groups, segments_from_ids
from maskformer_ext.data.tasks import TaskView
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError
from maskformer_ext.media.decoding import open_image
from maskformer_ext.ops.targets import VOID

Paired = tuple[list[Pair], list[str]]

_LARGEST = 65535  # number in a label image
_NAMED = 8  # values that an error lists


class SemanticFolder(PairedImages):
    """Semantic segmentation from label images that hold class numbers, or the classes' colours.

    Class ids count from 0. So do the numbers of the label images, unless 0 is the void value: they then count from 1.

    Args:
        images: the folder of images.
        labels: the folder of label images: up to 16 bit, one channel; or RGB where the classes file gives colours.
        table: the classes; a void value given there comes before ``ignore_label``.
        name: what reports call the data set.
        ignore_label: the value of pixels where nothing is known.
        pairs: what `pair_files` would return, where it is not all of both folders.
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
        pairs: Paired | None = None,
        skip_errors: bool = False,
    ) -> None:
        count = len(table.classes)
        self.void: int | None = ignore_label if table.ignore_label is None else table.ignore_label
        self.first = 1 if self.void == 0 and not table.values else 0  # number of the first class in a label image
        self.values = table.values or tuple(range(self.first, self.first + count))
        if table.values:
            self.void = None if self.void in table.values else self.void
        elif self.void is not None and (0 < self.void < count or not 0 <= self.void <= _LARGEST):
            raise UserError(
                f"data.ignore_label must be 0 (the classes are then 1 to {count}) or beyond the {count} class ids, at "
                f"most {_LARGEST}, got {self.void}."
            )
        if count > _LARGEST - self.first:
            raise UserError(f"{name}: a label image tells {_LARGEST} classes apart, but {count} are named.")
        self.info = DatasetInfo(name, table.classes, table.colors, (), void_id(self.void or 0, count))
        self.class_of_color = _class_of_color(table)
        super().__init__(*(pairs or pair_files(images, labels)), skip_errors=skip_errors, where=_where(images, labels))

    def read_labels(self, path: Path) -> np.ndarray:
        """Return (H, W) numbers of the classes and void, from numbers or from colours."""
        if self.class_of_color:
            with open_image(path, "a label image") as opened:
                colored = opened.mode == "RGB"
            if colored:
                return self._numbers_of_colors(path)
            if (palette := read_palette(path)) is not None:
                return self._in_order(super().read_labels(path), palette)
        return super().read_labels(path)

    def _in_order(self, label: np.ndarray, palette: np.ndarray) -> np.ndarray:
        """Return the numbers of the classes where a palette has the classes' colours, but in another order.

        Programs that save space or quantise write colour images so; the order of such a palette means nothing.
        """
        used = np.unique(label)
        used = used[used < len(palette)]
        keys = (palette[used] << (0, 8, 16)).sum(axis=1)
        number = {
            int(index): self.values[self.class_of_color[key]]
            for index, key in zip(used, keys.tolist(), strict=True)
            if key in self.class_of_color
        }
        others = [int(index) for index in np.unique(label) if index != self.void]
        if not all(index in number for index in others) or all(number[index] == index for index in others):
            return label
        table = np.arange(int(label.max()) + 1)
        for index, value in number.items():
            table[index] = value
        return table[label]

    def segments(self, label: np.ndarray, path: Path) -> tuple[Tensor, Tensor]:
        ids = ids_tensor(label)
        largest = max(*self.values, self.void or 0)
        areas = count_ids(ids, largest + 1)
        class_of_id = torch.full((len(areas),), VOID)
        class_of_id[list(self.values)] = torch.arange(self.info.num_classes)
        unknown = (areas > 0) & (class_of_id == VOID)
        if self.void is not None:
            unknown[self.void] = False
        if unknown.any():
            raise UserError(self._unknown(path, int(unknown.nonzero().max())))
        return segments_from_ids(ids, class_of_id, areas)

    def _unknown(self, path: Path, found: int) -> str:
        """Return the sentence about a number that is no class."""
        first, last = self.first, self.first + self.info.num_classes - 1
        if self.values != tuple(range(first, last + 1)):
            values = ", ".join(map(str, self.values[:_NAMED])) + ", ..." * (len(self.values) > _NAMED)
            return (
                f"{path} holds the label {found}, but the values of the {len(self.values)} classes are {values}: "
                'correct the image, or name the class in a classes.json with "classes" and "values".'
            )
        hint = ""
        if first == 0 and found == last + 1:
            hint = " If 0 means unlabelled and the classes count from 1, set data.ignore_label=0."
        void = f" and void is {self.void}" if self.void is not None else ""
        return (
            f"{path} holds the label {found}, but the classes are {first} to {last}{void}: "
            f"correct the image, the classes file or data.ignore_label.{hint}"
        )

    def _numbers_of_colors(self, path: Path) -> np.ndarray:
        """Turn a colour image into numbers of classes."""
        label = read_color_ids(path, exif=self.exif)
        colors, index = np.unique(label, return_inverse=True)
        numbers = [self.class_of_color.get(color, -1) for color in colors.tolist()]
        if -1 in numbers:
            color = list(color_of(int(colors[numbers.index(-1)])))
            raise UserError(f"{path} holds the colour {color}, which the classes file gives to no class.")
        return np.array(self.values, np.int64)[np.array(numbers)][index.reshape(label.shape)]


class InstanceFolder(PairedImages):
    """Instance, panoptic or semantic segmentation from label images that hold instance ids.

    A pixel is 0 where there is no instance. With one thing class, other values are any ids that differ between
    instances. With an ``id_divisor`` in the classes file, they are class number (from 1) x divisor + instance number.

    Args:
        images: the folder of images.
        labels: the folder of label images, 8 or 16 bit, one channel.
        table: the classes, which of them are things, and what 0 means.
        task: "instance" (things only, all else is void), "panoptic" (each instance, and one segment per stuff class) or
            "semantic" (one segment per class).
        name: what reports call the data set.
        pairs: what `pair_files` would return, where it is not all of both folders.
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
        pairs: Paired | None = None,
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
        view = TaskView(name, table, task)
        self.info, self._new_class = view.info, view.new_class
        super().__init__(*(pairs or pair_files(images, labels)), skip_errors=skip_errors, where=_where(images, labels))

    def segments(self, label: np.ndarray, path: Path) -> tuple[Tensor, Tensor]:
        ids = ids_tensor(label)
        areas = count_ids(ids)
        class_of_id = self._classes_of_ids(areas, path)
        class_of_id = torch.where(class_of_id == VOID, VOID, self._new_class[class_of_id])
        if self.task == "semantic":
            return segments_from_groups(ids, areas, class_of_id, torch.arange(self.info.num_classes))
        group_of_id = torch.arange(len(areas)).masked_fill_(class_of_id == VOID, VOID)
        for stuff in set(range(self.info.num_classes)) - set(self.info.thing_classes):  # one segment, whatever the id
            members = class_of_id == stuff
            group_of_id[members] = group_of_id[members][:1]
        return segments_from_groups(ids, areas, group_of_id, class_of_id)

    def _classes_of_ids(self, areas: Tensor, path: Path) -> Tensor:
        """Return the class of each id up to the largest, in the classes file's numbering, VOID for none."""
        divisor, background = self.table.id_divisor, self.table.background
        if divisor:
            class_of_id = torch.arange(len(areas)) // divisor - 1
            strange = (areas > 0) & ((class_of_id < 0) | (class_of_id >= len(self.table.classes)))
            strange[0] = False
            if strange.any():
                raise UserError(
                    f"{path} holds the id {int(strange.nonzero().max())}, but ids must be class number (1 to "
                    f'{len(self.table.classes)}) x {divisor} + instance number ("id_divisor" of the classes file).'
                )
        else:
            class_of_id = torch.full((len(areas),), self.table.things[0])
        class_of_id[0] = VOID if background is None else background
        return class_of_id


def _class_of_color(table: ClassTable) -> dict[int, int]:
    """Return the class of each colour that a classes file gives, as `color_number` counts; {} if two are the same."""
    if not table.own_colors or len(set(table.colors)) < len(table.colors):
        return {}
    return {color_number(color): index for index, color in enumerate(table.colors)}


def _where(images: Path, labels: Path) -> str:
    return f"{images} holds no image with a label in {labels}"
