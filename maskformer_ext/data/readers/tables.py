"""Data sets of Hugging Face `datasets`: images and labels in the rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from maskformer_ext.data.classes import ClassTable, void_id
from maskformer_ext.data.formats.coco_json import has_no_mask
from maskformer_ext.data.formats.coco_masks import check_inside
from maskformer_ext.data.formats.labels import read_label
from maskformer_ext.data.formats.table_columns import LABEL_IMAGE, MASKS, Columns
from maskformer_ext.data.formats.table_rows import Rows
from maskformer_ext.data.listing import sample_names
from maskformer_ext.data.readers.label_images import check_values, value_table
from maskformer_ext.data.readers.outlines import Outline, sample_of_outlines, with_background
from maskformer_ext.data.readers.pairs import check_same_size
from maskformer_ext.data.splitting import split_by_name
from maskformer_ext.data.targets import count_ids, ids_tensor, segments_from_groups
from maskformer_ext.data.tasks import TaskView
from maskformer_ext.data.types import DatasetInfo, FileIds, Sample
from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.media.images import read_image
from maskformer_ext.media.in_memory import as_file

_VALUES = 1 << 16


@dataclass(frozen=True)
class TableOptions:
    """What a configuration says about a data set of `datasets`.

    Attributes:
        split: "train" or "val".
        task: "semantic" for label images; any for objects.
        background: class of all pixels outside of every object, where the task knows stuff; empty: void.
        val_share: of the images, those that validate, drawn by their names; None: the rows are one split.
        ignore_label: value of void in label images.
    """

    split: str = "train"
    task: str = "semantic"
    background: str = "background"
    val_share: float | None = None
    ignore_label: int = 255


class Tables(Dataset):
    """Rows with an image each, and its labels.

    Args:
        rows: of the split, or of all images where there is none.
        columns: where images and labels are.
        table: the classes.
        values: what stands for each class in the labels.
        options: split, task and the like.

    Raises:
        UserError: if the task does not go with the labels, or no image is in the split. Reading an item raises it if an
            image or its labels are damaged or do not fit.
    """

    exif: bool = True  # turn images and labels as their orientation says
    problems: Sequence[str] = ()

    def __init__(
        self, rows: Rows, columns: Columns, table: ClassTable, values: Sequence[int | str], options: TableOptions
    ) -> None:
        self.rows, self.columns = rows, columns
        if not len(rows):
            raise UserError(f"{rows.where} has no row.")
        self.names = sample_names(rows.names(columns.image))
        self.chosen = list(range(len(rows)))
        if options.val_share is not None:
            kept = set(split_by_name(self.names, options.split, options.val_share, rows.where))
            self.chosen = [index for index in self.chosen if self.names[index] in kept]
        self.background: int | None = None
        if columns.kind == LABEL_IMAGE:
            if options.task != "semantic":
                raise UserError(
                    f"{rows.where}: its label images tell no objects apart, so that data.task must be semantic, got "
                    f"{options.task}."
                )
            self.void = options.ignore_label
            numbers, count = [int(value) for value in values], len(table.classes)
            void = {self.void, *((0,) if min(numbers) == 1 else ())}
            self.class_of_value = value_table(numbers, void=void, size=_VALUES)
            self.first = min(numbers)
            self.info = DatasetInfo("huggingface", table.classes, table.colors, (), void_id(self.void, count))
            return
        if options.task != "instance":
            table, self.background = with_background(table, options.background)
        self.view = TaskView("huggingface", table, options.task)
        self.class_of_category = {value: label for label, value in enumerate(values)}
        self.info = self.view.info.with_file_ids(self._ids(values, len(table.classes)))

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Sample:
        number = self.chosen[index]
        row, name = self.rows[number], self.names[number]
        where = f"{self.rows.where}, row {number} ({printable(name)})"
        with _file(row[self.columns.image], f"{where}, {self.columns.image!r}") as path:
            image = read_image(path, exif=self.exif)
        if self.columns.kind == LABEL_IMAGE:
            return self._with_label_image(image, row[self.columns.label], name, f"{where}, {self.columns.label!r}")
        outlines = self._outlines(row, (int(image.shape[-2]), int(image.shape[-1])), where)
        return sample_of_outlines(image, name, outlines, self.view, Path(where), background=self.background)

    def _with_label_image(self, image: torch.Tensor, value: Any, name: str, where: str) -> Sample:
        with _file(value, where) as path:
            label = read_label(path, exif=self.exif)
        check_same_size(Path(where), label.shape, Path("of this row"), tuple(image.shape[-2:]))
        ids = ids_tensor(label)
        areas = count_ids(ids, _VALUES)
        check_values(label.astype(np.int32), areas, self.class_of_value, Path(where), self.info.name)
        class_of_value = torch.from_numpy(self.class_of_value).long()
        segments = segments_from_groups(ids, areas, class_of_value, torch.arange(self.info.num_classes))
        return Sample(image, *segments, name, (label.shape[0], label.shape[1]))

    def _outlines(self, row: dict[str, Any], size: tuple[int, int], where: str) -> list[Outline]:
        found = []
        for place, (segmentation, category, crowd, area) in enumerate(_objects(row, self.columns, where)):
            called = f"object {place}"
            if has_no_mask(segmentation):
                continue  # a box only
            if category not in self.class_of_category:
                raise UserError(
                    f"{where}: {called} has the category {printable(category)!r:.60}, which is no class: name it in "
                    "the classes file or id2label.json."
                )
            if self.columns.kind == MASKS:
                with _file(segmentation, f"{where}, mask {place}") as path:
                    segmentation = _run_lengths(read_label(path, exif=self.exif), size, f"{where}, mask {place}")
            elif isinstance(segmentation, list) and isinstance(segmentation[0], int | float):
                segmentation = [segmentation]
            try:
                check_inside(segmentation, size)
            except ValueError as error:
                raise UserError(f"{where}: {called} {why(error)}.") from None
            found.append(Outline(called, self.class_of_category[category], segmentation, bool(crowd), area))
        return found

    def _ids(self, values: Sequence[int | str], count: int) -> FileIds:
        """Return ids for results in COCO's format; for a background class a free one."""
        numbers = [value if isinstance(value, int) else label for label, value in enumerate(values)]
        numbers += [max(numbers) + 1] * (count - len(numbers))
        kept = tuple(one for one, new in zip(numbers, self.view.new_class.tolist(), strict=True) if new >= 0)
        ids = self.rows.identities() or list(range(len(self.rows)))
        return FileIds(kept, {self.names[index]: ids[index] for index in self.chosen})


def _objects(row: dict[str, Any], columns: Columns, where: str) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield segmentation, category, whether it is a crowd, and area of each object of a row."""
    value = row[columns.label]
    if value is None:
        return
    if not columns.segmentation:
        categories = row[columns.category] if columns.category else [None] * len(value)
        records: list[dict[str, Any]] = [{"mask": mask} for mask in value]
        _check_lengths({"masks": value, columns.category or "masks": categories}, where)
        for record, category in zip(records, categories, strict=True):
            yield record["mask"], category, False, None
        return
    if isinstance(value, dict):
        lists = {key: one for key, one in value.items() if isinstance(one, list)}
        _check_lengths({key: lists.get(key, []) for key in (columns.segmentation, columns.category) if key}, where)
        count = len(lists.get(columns.segmentation, []))
        value = [{key: one[place] for key, one in lists.items() if len(one) == count} for place in range(count)]
    for record in value:
        category = record.get(columns.category) if columns.category else None
        yield record.get(columns.segmentation), category, record.get("iscrowd"), record.get("area") or None


def _check_lengths(lists: dict[str, list[Any]], where: str) -> None:
    lengths = {key: len(values) for key, values in lists.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{key} {count}" for key, count in lengths.items())
        raise UserError(f"{where}: the lists of its objects have different lengths ({said}).")


def _run_lengths(mask: np.ndarray, size: tuple[int, int], where: str) -> dict[str, Any]:
    from faster_coco_eval.core import mask as tools

    if mask.shape != size:
        raise UserError(
            f"{where} is {mask.shape[1]}x{mask.shape[0]} pixels, but its image is {size[1]}x{size[0]}: both must have "
            "the same size."
        )
    encoded = tools.encode(np.asfortranarray(mask > 0, dtype=np.uint8))
    return {"size": list(size), "counts": encoded["counts"].decode("ascii")}


@contextmanager
def _file(value: Any, where: str) -> Iterator[Path]:
    """Yield a path of an image file that a row holds, as bytes or as the path of a file on this machine."""
    content = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(content, bytes):
        with as_file(content, where) as path:
            yield path
        return
    name = value.get("path") if isinstance(value, dict) else None
    if not name:
        raise UserError(f"{where} is empty: remove the row, or set data.on_error=skip.")
    yield Path(name)
