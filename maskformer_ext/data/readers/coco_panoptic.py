"""Panoptic segmentation in COCO's format: a JSON file, and one PNG per image whose colours are segment ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from maskformer_ext.data.formats.coco_json import (
    LIST,
    NUMBER,
    TEXT,
    field,
    images_by_id,
    read_annotations,
)
from maskformer_ext.data.formats.labels import read_color_ids
from maskformer_ext.data.formats.own_categories import choose_categories
from maskformer_ext.data.listing import check_below, find_file, sample_names
from maskformer_ext.data.readers.packed import PackedList
from maskformer_ext.data.readers.pairs import check_same_size
from maskformer_ext.data.splitting import split_by_name
from maskformer_ext.data.tables import Categories
from maskformer_ext.data.targets import count_ids, ids_tensor, keep_segments, look_up
from maskformer_ext.data.tasks import TaskView
from maskformer_ext.data.types import FileIds, Sample, Truth
from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import reading
from maskformer_ext.media.images import read_image
from maskformer_ext.ops.targets import VOID

_IDS = 1 << 24
_MOST_SEGMENTS = 32_000  # per image; the lookup table is 16-bit
_VOID_ENTRY, _FIRST_ENTRY = 1, 2  # of the lookup table; 0 is an id that the JSON file does not know


class CocoPanoptic(Dataset):
    """Images with panoptic segments. The id 0 is void, and so are crowd regions unless the task is semantic.

    Scores need the crowd regions, which are segments of the samples' ``truth``.

    Args:
        images: the folder of images.
        segments: the folder of PNGs; the id of a pixel is R + 256 G + 65536 B.
        annotations: the JSON file.
        categories: the classes and their ids in the file, unless it names others as its own.
        task: "panoptic", "instance" (things; all else is void) or "semantic" (one segment per class).
        name: what reports call the data set.
        skip_errors: leave out images without annotation instead of raising; ``problems`` lists them.
        partner: the annotation file of the other split, which must name the same categories.
        split: "train" or "val", of a file without a split of its own.
        val_share: of the images, those that validate, drawn by their names; None: the file has its split alone.

    Raises:
        UserError: if a folder or file is missing or the JSON file is not what it must be. Reading an item raises it
            if a file is damaged, sizes differ, a category is no class, or the PNG disagrees with the JSON file.
    """

    exif: bool = True  # turn images and PNGs as their orientation says

    def __init__(
        self,
        images: Path,
        segments: Path,
        annotations: Path,
        categories: Categories,
        *,
        task: str = "panoptic",
        name: str = "coco_panoptic",
        skip_errors: bool = False,
        partner: Path | None = None,
        split: str = "train",
        val_share: float | None = None,
    ) -> None:
        for folder, what in ((images, "images"), (segments, "panoptic PNGs")):
            if not folder.is_dir():
                raise UserError(f"the folder {folder} is missing: it holds the {what} of {name}.")
        self.images, self.folder, self.annotations = images, segments, annotations
        content = read_annotations(annotations)
        categories = choose_categories(content, annotations, categories, partner=partner, panoptic=True)
        self.view = TaskView(name, categories.table, task)
        self.class_of_category = {number: index for index, number in enumerate(categories.ids)}
        with reading(annotations, "an annotation file of panoptic segments"):
            records, image_ids, self.problems = _records(content, annotations, images, segments)
        if self.problems and not skip_errors:
            raise UserError(self.problems[0])
        if not records:
            raise UserError(f"{annotations} annotates no image.")
        if val_share is not None:
            chosen = set(split_by_name(image_ids, split, val_share, str(annotations)))
            records = [record for record in records if record[-1] in chosen]
            image_ids = {name: number for name, number in image_ids.items() if name in chosen}
        if not self.view.info.classes:
            raise UserError(f'{annotations}: no category has "isthing": 1, but the task is {task}.')
        self.records = PackedList(records)
        kept = [number for number, new in zip(categories.ids, self.view.new_class.tolist(), strict=True) if new != VOID]
        self.info = self.view.info.with_file_ids(FileIds(tuple(kept), image_ids))
        self._entry_of_id: Tensor | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        file_name, png, size, segments, name = self.records[index]
        path, image_path = find_file(self.folder, png), find_file(self.images, file_name)
        image, ids = read_image(image_path, exif=self.exif), read_color_ids(path, exif=self.exif)
        check_same_size(path, ids.shape, image_path, tuple(image.shape[-2:]))
        if list(ids.shape) != size:
            raise UserError(
                f"{path} is {ids.shape[1]}x{ids.shape[0]} pixels, but {self.annotations} says {size[1]}x{size[0]}."
            )
        segment_map, labels, truth = self.segments(ids, segments, path)
        return Sample(
            image,
            segment_map,
            labels,
            name,
            (size[0], size[1]),
            truth,
        )

    def segments(self, ids: np.ndarray, records: list[list[int]], path: Path) -> tuple[Tensor, Tensor, Truth | None]:
        """Return the segments of an image as the task sees them.

        Args:
            ids: (H, W) uint32 of the PNG.
            records: id, category and whether it is a crowd of each segment.
            path: what errors call the PNG.

        Returns:
            segment_map (H, W) int32 and labels (T,) int64 to train with, and what scores count where that is more.
        """
        every, labels = self._decode(ids, records, path)
        crowd = torch.tensor([bool(record[2]) for record in records], dtype=torch.bool)
        if self.view.task == "semantic" or not crowd.any():  # the class of a crowd is known, its instances are not
            return *self.view.segments(every, labels), None
        truth = self._truth(every, labels, crowd)
        return *self.view.segments(*keep_segments(every, labels, ~crowd)), truth

    def _truth(self, segment_map: Tensor, labels: Tensor, crowd: Tensor) -> Truth:
        """Return the segments that the task asks for together with the crowd regions."""
        crowd = crowd[self.view.new_class[labels] != VOID]
        segment_map, labels = self.view.segments(segment_map, labels)
        return Truth(segment_map, labels, crowd)

    def _decode(self, ids: np.ndarray, segments: list[list[int]], path: Path) -> tuple[Tensor, Tensor]:
        """Turn ids (H, W) into segment_map (H, W) int32 and labels (T,) int64, crowd regions included."""
        if self._entry_of_id is None:
            # Zeros cost no memory until a page is written, and segments touch few pages of the 2^24 entries.
            self._entry_of_id = torch.from_numpy(np.zeros(_IDS, np.int16))
        table = self._entry_of_id
        for number, category, _ in segments:
            if category not in self.class_of_category:
                raise UserError(
                    f"{self.annotations}: segment {number} of {path.name} has the category {category}, which is no "
                    f"category of {self.info.name}."
                )
        if len(segments) > _MOST_SEGMENTS:
            raise UserError(
                f"{self.annotations}: {path.name} has {len(segments)} segments, more than {_MOST_SEGMENTS}."
            )
        labels = [self.class_of_category[segment[1]] for segment in segments]
        numbers = torch.tensor([segment[0] for segment in segments], dtype=torch.int64)
        table[0] = _VOID_ENTRY
        table[numbers] = _FIRST_ENTRY + torch.arange(len(numbers), dtype=torch.int16)
        entries = look_up(table, ids_tensor(ids))
        table[numbers] = 0
        self._check(entries, ids, numbers, path)
        return (entries.int() - _FIRST_ENTRY).clamp_(min=VOID), torch.tensor(labels, dtype=torch.int64)

    def _check(self, entries: Tensor, ids: np.ndarray, numbers: Tensor, path: Path) -> None:
        """Raise if the PNG holds an id that the JSON file does not list, or lacks one."""
        areas = count_ids(entries, _FIRST_ENTRY + len(numbers))
        if areas[0]:
            strange = ids[entries.numpy() == 0][0]
            raise UserError(
                f"{path} holds the segment id {strange}, which {self.annotations} does not list for it: "
                "the PNG disagrees with its JSON file."
            )
        if not areas[_FIRST_ENTRY:].all():
            missing = int(numbers[areas[_FIRST_ENTRY:] == 0][0])
            raise UserError(
                f"{path} has no pixel of the segment id {missing}, which {self.annotations} lists for it: the PNG "
                "disagrees with its JSON file."
            )


def _records(
    content: dict[str, Any], path: Path, folder: Path, segment_folder: Path
) -> tuple[list[Any], dict[str, int | str], list[str]]:
    """Return a record of each image, its id by its name, and what does not fit.

    A record is (image file, PNG, [height, width], [[id, category, crowd], ...], name).
    """
    images, problems, records, numbers = images_by_id(content, path, folder), [], [], []
    annotated = set()
    for annotation in content["annotations"]:
        number, png = (
            field(annotation, "image_id", "annotation", path),
            field(annotation, "file_name", "annotation", path, TEXT),
        )
        check_below(png, segment_folder)
        if number not in images:
            problems.append(
                f'{path}: the annotation {printable(png)} is of image {printable(number)}, which is not among "images".'
            )
            continue
        if number in annotated:
            problems.append(
                f"{path}: the image {printable(number)} is annotated twice, the second time by {printable(png)}."
            )
            continue
        segments = [
            [
                field(segment, "id", "segment", path, NUMBER),
                field(segment, "category_id", "segment", path, NUMBER),
                field(segment, "iscrowd", "segment", path, NUMBER, default=0),
            ]
            for segment in field(annotation, "segments_info", "annotation", path, LIST)
        ]
        ids = [segment[0] for segment in segments]
        if len(set(ids)) < len(ids) or any(not 0 < n < _IDS for n in ids):
            problems.append(f"{path}: the segment ids of {printable(png)} must differ and be within 1 and {_IDS - 1}.")
            continue
        annotated.add(number)
        image = images[number]
        numbers.append(number)
        records.append((image["file_name"], png, [image["height"], image["width"]], segments))
    problems += [
        f"{path}: the image {printable(image['file_name'])} has no annotation."
        for n, image in images.items()
        if n not in annotated
    ]
    names = sample_names([record[0] for record in records])
    named = [(*record, name) for record, name in zip(records, names, strict=True)]
    return named, dict(zip(names, numbers, strict=True)), problems
