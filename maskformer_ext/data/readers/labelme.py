"""Instance segmentation from LabelMe's JSON files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from maskformer_ext.config import DataConfig
from maskformer_ext.data.classes import ClassTable, palette
from maskformer_ext.data.formats.coco_masks import rasterise
from maskformer_ext.data.formats.labelme_json import BACKGROUND, IGNORE, Shape, embedded_image, read_labelme
from maskformer_ext.data.layouts.labelme import class_names, find_image, labelme_files, scan, split_folders
from maskformer_ext.data.listing import list_files
from maskformer_ext.data.readers.outlined_files import Outlined, OutlinedFiles, report_some
from maskformer_ext.data.readers.outlines import Outline, sample_of_outlines, with_background
from maskformer_ext.data.readers.pairs import turned_hint
from maskformer_ext.data.splitting import split_by_name
from maskformer_ext.data.targets import keep_segments
from maskformer_ext.data.tasks import TaskView
from maskformer_ext.data.types import Sample, Truth
from maskformer_ext.errors import UserError, printable
from maskformer_ext.media.extensions import EXTENSIONS
from maskformer_ext.media.images import read_image
from maskformer_ext.media.in_memory import as_file


class LabelMeFiles(OutlinedFiles):
    """Images with a LabelMe file each. Images without one are not labelled, and are left out.

    All JSON files are read once at the start, for the names of the classes and so that a wrong file is an error before
    training. Log lines count what is left out: shapes without area, images without file, other JSON files.

    Shapes of one group and label are one object. Those called "__ignore__" are void. "_background_" is what lies
    outside of every shape. Where shapes overlap, the smaller one owns the pixel.

    Args:
        root: the folder.
        config: which classes, task and background, and the share of the validation images where there is no split.
        split: "train" or "val".

    Raises:
        UserError: if a file cannot be read, an image is missing or there is no shape. Reading an item raises it if the
            image has another size than the file says, or a label is no class.
    """

    def __init__(self, root: Path, config: DataConfig, split: str) -> None:
        root = root.resolve()
        folders = split_folders(root)
        found = {part: labelme_files(folder) for part, folder in (folders or {"": root}).items()}
        every = sorted(path for files, _ in found.values() for path in files.values())
        if not every:
            raise UserError(f"{root} holds no LabelMe file: expected a JSON file beside each image.")
        names, self.named_by = class_names(root, config, every)
        files, others = found[split if folders else ""]
        chosen = list(files) if folders else split_by_name(files, split, config.val_share, str(root))
        problems = scan(every).problems
        records: list[Outlined] = [(name, files[name], files[name]) for name in chosen if files[name] not in problems]
        self.root = root
        table = ClassTable(names, palette(len(names)), things=tuple(range(len(names))))
        super().__init__(
            records,
            table,
            task=config.task,
            background=config.background,
            name="labelme",
            problems=[problems[files[name]] for name in chosen if files[name] in problems],
            skip_errors=config.on_error == "skip",
            where=str(root),
        )
        self.names = names
        self.with_ignored = _with_ignored(table, config.task, config.background)
        if split == "train" or folders:
            self._report(folders[split] if folders else root, files, others)

    def image_file(self, index: int) -> Path:
        """Return the file of an image; the LabelMe file where that holds it."""
        file = self.records[index][1]
        return find_image(file, read_labelme(file, masks=False).image_path, self.root) or file

    def read(self, image: Path, file: Path | None) -> Tensor:
        """Read the image of a LabelMe file: from the disk, or from the file itself."""
        content = read_labelme(image, masks=False)
        found = find_image(image, content.image_path, self.root)
        if found is None and not content.embedded:
            raise UserError(
                f"{image}: its image {printable(content.image_path) or image.stem} is missing, and the file does not "
                "hold it: put it beside the file."
            )
        pixels = read_image(found, exif=self.exif) if found is not None else _embedded(image, self.exif)
        size = tuple(pixels.shape[-2:])
        if content.size is not None and size != content.size:
            raise UserError(
                f"{found or image} is {size[1]}x{size[0]} pixels, but {image} says {content.size[1]}x{content.size[0]}."
                f"{turned_hint(content.size, size)}"
            )
        return pixels

    def outlines(self, file: Path, image: Path, size: tuple[int, int]) -> list[Outline]:
        groups: dict[Any, list[Shape]] = {}
        for shape in read_labelme(file).shapes:
            key = (shape.label, shape.group) if shape.group is not None else (shape.number,)
            groups.setdefault(key, []).append(shape)
        return [self._outline(shapes, file, size) for shapes in groups.values()]

    def sample(self, image: Tensor, name: str, outlines: Sequence[Outline], file: Path) -> Sample:
        view = self.with_ignored
        ignored = len(view.new_class) - 1
        if all(outline.label != ignored for outline in outlines):
            return super().sample(image, name, outlines, file)
        sample = sample_of_outlines(image, name, outlines, view, file, background=self.background)
        return _without(sample, int(view.new_class[ignored]))

    def _outline(self, shapes: list[Shape], file: Path, size: tuple[int, int]) -> Outline:
        first = shapes[0]
        where = f"shape {first.number} ({first.label})"
        ignored = len(self.with_ignored.new_class) - 1
        if first.label == IGNORE or (first.label == BACKGROUND and self.background is None):
            label = ignored
        elif first.label == BACKGROUND:
            label = int(self.background or 0)
        elif first.label in self.names:
            label = self.names.index(first.label)
        else:
            raise UserError(
                f"{file}, shape {first.number}: the label {first.label!r} is no class of {self.named_by or self.root}: "
                "correct the label, or add the class."
            )
        if all(shape.mask is None for shape in shapes):
            return Outline(where, label, [shape.polygon for shape in shapes])
        whole = np.zeros(size, bool)
        for shape in shapes:
            if shape.mask is None:
                whole |= rasterise([shape.polygon], size)[1].astype(bool)
            else:
                _paste(shape, whole, file)
        return Outline(where, label, _run_lengths(whole))

    def _report(self, folder: Path, files: dict[str, Path], others: list[str]) -> None:
        found = scan(sorted(files.values()))
        kinds = [f"{count} {kind}" for kind, count in sorted(found.without_area.items())]
        if kinds:
            report_some(folder, f"left out shapes without area, of {{}} type{'s' * (len(kinds) > 1)}", kinds)
        report_some(folder, "{} [shape reaches|shapes reach] over the border of the image, to end there", found.beyond)
        report_some(folder, "passed over {} JSON [file that is|files that are] not LabelMe's", others)
        images = list_files(folder, EXTENSIONS).files
        stems = {path.stem for path in files.values()}
        report_some(
            folder,
            "left out {} [image|images] without a LabelMe file",
            [path.name for path in images.values() if path.stem not in stems],
        )


def _embedded(path: Path, exif: bool) -> Tensor:
    """Return the image that a LabelMe file holds."""
    with as_file(embedded_image(path), f'{path}: "imageData"') as file:
        return read_image(file, exif=exif)


def _paste(shape: Shape, whole: np.ndarray, file: Path) -> None:
    """Add a mask at its place to all pixels of an object."""
    mask, (top, left) = shape.mask, shape.corner
    assert mask is not None
    height, width = whole.shape
    if top < 0 or left < 0 or top + mask.shape[0] > height + 1 or left + mask.shape[1] > width + 1:
        raise UserError(
            f"{file}, shape {shape.number}: the mask of {mask.shape[1]}x{mask.shape[0]} pixels at {left}, {top} lies "
            f"outside its image of {width}x{height}."
        )
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] |= mask[: height - top, : width - left]


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Return COCO's run lengths of a mask (H, W) bool: down the columns, beginning with what is outside."""
    flat = np.concatenate([[False], mask.T.ravel(), [not mask.T.ravel()[-1]]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate([[0], ends]))
    return {"size": list(mask.shape), "counts": [int(run) for run in runs]}


def _with_ignored(table: ClassTable, task: str, background: str) -> TaskView:
    """Return the classes as a task sees them with one more, whose segments become void."""
    whole, _ = with_background(table, "" if task == "instance" else background)
    last = len(whole.classes)
    more = replace(
        whole, classes=(*whole.classes, IGNORE), colors=(*whole.colors, (0, 0, 0)), things=(*whole.things, last)
    )
    return TaskView("labelme", more, task)


def _without(sample: Sample, label: int) -> Sample:
    """Return a sample whose segments of a class are void."""
    keep = sample.labels != label
    segment_map, labels = keep_segments(sample.segment_map, sample.labels, keep)
    truth = sample.truth
    if truth is not None:
        instances = None if truth.instances is None else tuple(one for one in truth.instances if one.label != label)
        crowd = None if truth.crowd is None else truth.crowd[truth.labels != label]
        truth = Truth(*keep_segments(truth.segment_map, truth.labels, truth.labels != label), crowd, instances)
    masks = None if sample.masks is None else sample.masks[keep]
    return replace(sample, segment_map=segment_map, labels=labels, truth=truth, masks=masks)
