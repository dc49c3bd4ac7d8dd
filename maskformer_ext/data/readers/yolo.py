"""Instance segmentation from YOLO-seg's text files."""

from __future__ import annotations

import os
from pathlib import Path

from maskformer_ext.data.classes import ClassTable, palette
from maskformer_ext.data.formats.yolo_labels import read_yolo
from maskformer_ext.data.layouts.yolo import YoloLayout, label_file
from maskformer_ext.data.readers.outlined_files import Outlined, OutlinedFiles, report_some
from maskformer_ext.data.readers.outlines import Outline
from maskformer_ext.errors import UserError

_SHOWN = 3


class YoloFiles(OutlinedFiles):
    """Images with a text file of polygons each. An image without a text file has no object.

    All text files are read once at the start, so that a wrong line is an error before training. Log lines count what
    is left out: boxes without polygon, and text files without image.

    Args:
        layout: where everything lies.
        split: "train" or "val".
        share: ``data.val_share``, where the data has no split.
        task: "instance", "panoptic" or "semantic".
        background: class of all other pixels where the task knows stuff; empty: they are void.
        skip_errors: leave out images whose text file is wrong instead of raising; ``problems`` lists them.

    Raises:
        UserError: if an image is missing, a line is not what it must be, or no line has a polygon.
    """

    def __init__(
        self, layout: YoloLayout, split: str, *, share: float, task: str, background: str, skip_errors: bool
    ) -> None:
        names = layout.names
        table = ClassTable(names, palette(len(names)), things=tuple(range(len(names))))
        images = layout.images(split, share)
        records, problems = _checked(images, len(names), layout)
        super().__init__(
            records,
            table,
            task=task,
            background=background,
            name="yolo",
            problems=problems,
            skip_errors=skip_errors,
            where=str(layout.root),
        )

    def outlines(self, file: Path, image: Path, size: tuple[int, int]) -> list[Outline]:
        height, width = size
        scales = (width, height)
        return [
            Outline(f"line {number}", label, [[value * scales[place % 2] for place, value in enumerate(polygon)]])
            for number, label, polygon in read_yolo(file, self.classes).objects
        ]


def _checked(images: list[tuple[str, Path]], classes: int, layout: YoloLayout) -> tuple[list[Outlined], list[str]]:
    """Read all label files, and return the records and one sentence for each file that is wrong."""
    records: list[Outlined] = []
    problems, boxes, beyond, without = [], [], [], []
    polygons = 0
    for name, image in images:
        file = label_file(image)
        if not os.path.isfile(file):
            without.append(name)
            records.append((name, image, None))
            continue
        try:
            labels = read_yolo(file, classes)
        except UserError as error:
            problems.append(str(error))
            continue
        polygons += len(labels.objects)
        boxes += [f"line {number} of {file.name}" for number in labels.boxes]
        beyond += [f"line {number} of {file.name}" for number in labels.beyond]
        records.append((name, image, file))
    for folder in sorted({label_file(image).parent for _, image in images}):
        if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
            raise UserError(f"the folder {folder} cannot be read: it belongs to somebody else.")
    if len(without) == len(images):
        raise UserError(
            f"{layout.root}: none of {len(images)} images has a label file: {images[0][1]} needs "
            f"{label_file(images[0][1])}."
        )
    if boxes and not polygons:
        raise UserError(
            f"{layout.root}: none of its {len(boxes)} labels is a polygon, they are boxes ({boxes[0]}): export the "
            "data for segmentation, as polygons."
        )
    report_some(layout.root, "left out {} [box|boxes] without a polygon", boxes)
    report_some(layout.root, "{} [polygon reaches|polygons reach] over the border of the image, to end there", beyond)
    report_some(layout.root, "{} [image|images] without a label file [has|have] no object", without)
    _report_orphans([image for _, image in images], layout)
    return records, problems


def _report_orphans(images: list[Path], layout: YoloLayout) -> None:
    """Log how many label files have no image."""
    known = {label_file(image) for image in images}
    for folder in sorted({file.parent for file in known}):
        if not folder.is_dir():
            continue
        there = {image.stem for image in folder.iterdir() if image.suffix.lower() != ".txt"}
        stems = {file.stem for file in known if file.parent == folder} | there | {"classes"}
        if layout.sources["train"] and layout.sources["val"]:  # else the images of the other split lie there, too
            others = [path.name for path in sorted(folder.glob("*.txt")) if path.stem not in stems]
            report_some(folder, "passed over {} label [file|files] without image", others)
