"""Instance segmentation in COCO's format: a JSON file with polygons and run lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from maskformer_ext.data.formats.coco_json import (
    LIST_OR_OBJECT,
    NUMBER,
    REAL,
    field,
    has_no_mask,
    images_by_id,
    read_annotations,
    report_boxes,
)
from maskformer_ext.data.formats.own_categories import choose_categories
from maskformer_ext.data.listing import find_file, sample_names
from maskformer_ext.data.readers.outlines import Outline, sample_of_outlines
from maskformer_ext.data.readers.packed import PackedList
from maskformer_ext.data.readers.pairs import turned_hint
from maskformer_ext.data.tables import Categories
from maskformer_ext.data.tasks import TaskView
from maskformer_ext.data.types import FileIds, Sample
from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import reading
from maskformer_ext.media.images import read_image


class CocoInstance(Dataset):
    """Images with instances; crowd regions are void. Images without instances are kept.

    Annotations without a mask (``"segmentation": []``, which annotation tools write for boxes) are left out. A log line
    counts them. A file of nothing else is refused.

    Where masks overlap, the sample has all of them, and in its segment map the smaller one owns the pixel. Scores need
    the crowd regions and the areas of the file, too, which are the ``instances`` of the samples' ``truth``.

    Args:
        images: the folder of images.
        annotations: the JSON file.
        categories: the classes and their ids in the file, unless it names others as its own; the things are kept.
        name: what reports call the data set.
        skip_errors: leave out annotations of unknown images instead of raising; ``problems`` lists them.
        partner: the annotation file of the other split, which must name the same categories.

    Raises:
        UserError: if a folder or file is missing or the JSON file is not what it must be. Reading an item raises it if
            a file is damaged, sizes differ or a category is no class. So does a mask of neither
            polygons nor run lengths.
    """

    exif: bool = True  # turn images as their orientation says

    def __init__(
        self,
        images: Path,
        annotations: Path,
        categories: Categories,
        *,
        name: str = "coco_instance",
        skip_errors: bool = False,
        partner: Path | None = None,
    ) -> None:
        if not images.is_dir():
            raise UserError(f"the folder {images} is missing: it holds the images of {name}.")
        self.images, self.annotations = images, annotations
        content = read_annotations(annotations)
        categories = choose_categories(content, annotations, categories, partner=partner)
        if not categories.table.things:
            raise UserError(f'{annotations}: every category has "isthing": 0, so that there is no instance.')
        self.view = TaskView(name, categories.table, "instance")
        self.class_of_category = {categories.ids[thing]: thing for thing in categories.table.things}
        with reading(annotations, "an annotation file of instances"):
            records, image_ids, self.problems = _records(content, annotations, images)
        if self.problems and not skip_errors:
            raise UserError(self.problems[0])
        if not records:
            raise UserError(f"{annotations} lists no image.")
        self.records = PackedList(records)
        self.info = self.view.info.with_file_ids(FileIds(tuple(self.class_of_category), image_ids))

    def __len__(self) -> int:
        return len(self.records)

    def image_file(self, index: int) -> Path:
        """Return the file of an image."""
        return find_file(self.images, self.records[index][0])

    def __getitem__(self, index: int) -> Sample:
        file_name, size, instances, name = self.records[index]
        path = find_file(self.images, file_name)
        image = read_image(path, exif=self.exif)
        if list(image.shape[-2:]) != size:
            raise UserError(
                f"{path} is {image.shape[-1]}x{image.shape[-2]} pixels, but {self.annotations} says "
                f"{size[1]}x{size[0]}.{turned_hint(size, image.shape[-2:])}"
            )
        outlines = []
        for number, category, segmentation, crowd, area in instances:
            where = f"annotation {printable(number)} of {printable(file_name)}"
            if category not in self.class_of_category:
                raise UserError(
                    f"{self.annotations}: {where} has the category {printable(category)}, which is no category of "
                    f"{self.info.name}."
                )
            outlines.append(Outline(where, self.class_of_category[category], segmentation, bool(crowd), area))
        return sample_of_outlines(image, name, outlines, self.view, self.annotations)


def _records(content: dict[str, Any], path: Path, folder: Path) -> tuple[list[Any], dict[str, int | str], list[str]]:
    """Return a record of each image, its id by its name, and what does not fit.

    A record is (image file, [height, width], [[id, category, segmentation, crowd, area], ...], name).
    """
    images, problems = images_by_id(content, path, folder), []
    instances: dict[Any, list[Any]] = {number: [] for number in images}
    boxes: list[str] = []
    for annotation in content["annotations"]:
        image, number, category = (
            field(annotation, key, "annotation", path) for key in ("image_id", "id", "category_id")
        )
        if image not in images:
            problems.append(
                f'{path}: annotation {printable(number)} is of image {printable(image)}, which is not among "images".'
            )
            continue
        if has_no_mask(annotation.get("segmentation")):
            boxes.append(f"{printable(number)} of {printable(images[image]['file_name'])}")
            continue
        segmentation = field(annotation, "segmentation", "annotation", path, LIST_OR_OBJECT)
        crowd = field(annotation, "iscrowd", "annotation", path, NUMBER, default=0)
        known = annotation.get("area") is not None  # else the mask tells it
        area = field(annotation, "area", "annotation", path, REAL) if known else None
        instances[image].append([number, category, segmentation, crowd, area])
    report_boxes(boxes, len(content["annotations"]), path)
    names = sample_names([image["file_name"] for image in images.values()])
    records = [
        (image["file_name"], [image["height"], image["width"]], instances[number], name)
        for (number, image), name in zip(images.items(), names, strict=True)
    ]
    return records, dict(zip(names, images, strict=True)), problems
