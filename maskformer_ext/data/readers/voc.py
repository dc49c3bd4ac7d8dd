"""Masks in Pascal VOC's layout: classes, and where there are such, instances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.data.classes import ClassTable
from maskformer_ext.data.formats.labels import read_color_ids, read_label
from maskformer_ext.data.formats.voc_colors import VOID, VOID_COLOR, class_numbers
from maskformer_ext.data.layouts.voc import VocLayout, read_list
from maskformer_ext.data.listing import list_files
from maskformer_ext.data.readers.pairs import Pair, PairedImages, check_same_size, pair_files
from maskformer_ext.data.splitting import split_by_name
from maskformer_ext.data.targets import count_ids, ids_tensor, segments_from_groups, segments_from_ids
from maskformer_ext.data.tasks import TaskView
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import printable
from maskformer_ext.media.decoding import open_image
from maskformer_ext.media.extensions import EXTENSIONS
from maskformer_ext.ops.targets import VOID as NO_SEGMENT


class VocClasses(PairedImages):
    """Semantic segmentation from masks of classes: VOC's numbers, or the colours of a ``labelmap.txt``.

    Args:
        layout: where everything lies.
        table: the classes.
        split: "train" or "val".
        share: ``data.val_share``, where the lists tell no splits apart.
        skip_errors: leave out images that a list names and that are missing; ``problems`` lists them.

    Raises:
        UserError: if files of a list are missing. Reading an item raises it if a file is damaged, sizes differ or a
            value is no class.
    """

    def __init__(self, layout: VocLayout, table: ClassTable, split: str, *, share: float, skip_errors: bool) -> None:
        self.table, self.void = table, VOID
        self.info = DatasetInfo("voc", table.classes, table.colors, ())
        pairs, problems = voc_pairs(layout, split, share)
        super().__init__(pairs, problems, skip_errors=skip_errors, where=str(layout.root))

    def read_labels(self, path: Path) -> np.ndarray:
        """Return (H, W) numbers of the classes, 255 for void."""
        return class_numbers(path, self.table, exif=self.exif)

    def segments(self, label: np.ndarray, path: Path) -> tuple[Tensor, Tensor]:
        table = torch.full((VOID + 1,), NO_SEGMENT)
        table[: self.info.num_classes] = torch.arange(self.info.num_classes)
        table[VOID] = NO_SEGMENT
        return segments_from_ids(ids_tensor(label), table, count_ids(ids_tensor(label), VOID + 1))


class VocObjects(PairedImages):
    """Instance or panoptic segmentation from masks of instances, whose classes the masks of classes tell.

    Args:
        layout: where everything lies; it has masks of instances.
        table: the classes; the background is stuff.
        split: "train" or "val".
        task: "instance" or "panoptic".
        share: as for `VocClasses`.
        skip_errors: as for `VocClasses`.

    Raises:
        UserError: as for `VocClasses`, and if an image has no mask of instances.
    """

    def __init__(
        self, layout: VocLayout, table: ClassTable, split: str, *, task: str, share: float, skip_errors: bool
    ) -> None:
        assert layout.objects is not None
        self.table, self.task, self.layout = table, task, layout
        view = TaskView("voc", table, task)
        self.info, self._new_class = view.info, view.new_class
        pairs, problems = voc_pairs(layout, split, share)
        objects = list_files(layout.objects, (".png",)).files
        problems += [
            f"{image} has no mask of instances: expected {layout.objects / name}.png."
            for name, image, _ in pairs
            if name not in objects
        ]
        self.classes_of = {objects[name]: path for name, _, path in pairs if name in objects}
        kept: list[Pair] = [(name, image, objects[name]) for name, image, _ in pairs if name in objects]
        super().__init__(kept, problems, skip_errors=skip_errors, where=str(layout.root))

    def read_labels(self, path: Path) -> np.ndarray:
        """Return (H, W) numbers of the instances: 0 outside of all, 255 for void where the file has numbers."""
        with open_image(path, "a label image") as image:
            colored = image.mode == "RGB"
        if not colored:
            return read_label(path, exif=self.exif)
        colors = read_color_ids(path, exif=self.exif)
        found, index = np.unique(colors, return_inverse=True)
        numbers = np.cumsum((found != 0) & (found != VOID_COLOR))
        numbers[numbers >= VOID] += 1
        numbers[found == 0], numbers[found == VOID_COLOR] = 0, VOID
        return numbers[index.reshape(colors.shape)]

    def segments(self, label: np.ndarray, path: Path) -> tuple[Tensor, Tensor]:
        file = self.classes_of[path]
        classes = class_numbers(file, self.table, exif=self.exif)
        check_same_size(path, label.shape, file, classes.shape)
        label = np.where(classes == VOID, VOID, label)
        outside = label == 0
        count = len(self.table.classes)
        stuff = [number for number in range(count) if number not in self.table.things]
        # One map of both: the instances, and beyond their numbers the classes of what lies outside of all of them.
        first = max(int(label.max()), VOID) + 1
        ids = np.where(outside & np.isin(classes, stuff), first + classes.astype(np.int64), label)
        areas = count_ids(ids_tensor(ids), first + VOID + 1)
        class_of_id = torch.full((len(areas),), NO_SEGMENT)
        pairs, counts = np.unique(label.astype(np.int64) * (VOID + 1) + classes, return_counts=True)
        for pair in pairs[np.argsort(counts, kind="stable")].tolist():  # the class of most pixels is the last
            number, of = divmod(pair, VOID + 1)
            if number not in (0, VOID) and of in self.table.things:
                class_of_id[number] = self._new_class[of]
        class_of_id[first : first + count] = self._new_class
        class_of_id[[0, VOID]] = NO_SEGMENT
        groups = torch.arange(len(areas)).masked_fill_(class_of_id == NO_SEGMENT, NO_SEGMENT)
        return segments_from_groups(ids_tensor(ids), areas, groups, class_of_id)


def voc_pairs(layout: VocLayout, split: str, share: float) -> tuple[list[Pair], list[str]]:
    """Return name, image and mask of classes of each image of a split, and one sentence for each that is missing.

    Raises:
        UserError: if a list or folder cannot be read, or no image is of the split.
    """
    own, whole = layout.list_of(split), layout.whole_list()
    chosen = own or whole
    if chosen is None:
        pairs, problems = pair_files(layout.images, layout.classes)
        masks = {name for name, *_ in pairs}
        problems = [problem for problem in problems if " has no label" not in problem]  # VOC has more images than masks
        names = set(split_by_name(sorted(masks), split, share, str(layout.root)))
        return [pair for pair in pairs if pair[0] in names], problems
    lines = read_list(chosen)
    images = list_files(layout.images, EXTENSIONS).files
    masks_of = list_files(layout.classes, (".png",)).files
    numbers = {name: number for number, name in lines}
    names_of_split = list(numbers) if own else split_by_name(numbers, split, share, str(chosen))
    found, problems = [], []
    for name in names_of_split:
        if name in images and name in masks_of:
            found.append((name, images[name], masks_of[name]))
            continue
        what, folder = ("image", layout.images) if name not in images else ("mask", layout.classes)
        problems.append(
            f"{chosen}, line {numbers[name]}: the {what} of {printable(name)} is missing: expected {folder / name} "
            "with an ending. Add the file, or take the line out."
        )
    return found, problems
