"""Own data in COCO's JSON, as annotation tools export it: other people's paths, sizes left out, objects outlined."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from torch.utils.data import Dataset

from maskformer_ext.data.classes import ClassTable
from maskformer_ext.data.formats.coco_classes import own_classes
from maskformer_ext.data.formats.coco_json import (
    LIST_OR_OBJECT,
    NUMBER,
    REAL,
    TEXT,
    field,
    has_no_mask,
    read_own_annotations,
    report_boxes,
)
from maskformer_ext.data.formats.coco_masks import check_inside
from maskformer_ext.data.formats.image_places import ImagePlaces
from maskformer_ext.data.listing import sample_names
from maskformer_ext.data.readers.outlines import Outline, sample_of_outlines, with_background
from maskformer_ext.data.readers.packed import PackedList
from maskformer_ext.data.readers.pairs import turned_hint
from maskformer_ext.data.splitting import split_by_name
from maskformer_ext.data.tasks import TaskView
from maskformer_ext.data.types import FileIds, Sample
from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.files import reading
from maskformer_ext.media.images import read_image

_log = logging.getLogger(__name__)
_SHOWN = 3


@dataclass(frozen=True)
class OwnCocoOptions:
    """What a configuration says about own data in COCO's JSON.

    Attributes:
        split: "train" or "val".
        task: "instance", "semantic" or "panoptic".
        background: class of all pixels outside of every object, where the task knows stuff; empty: void.
        val_share: of the images, those that validate, drawn by their names; None: the file has its split alone.
        skip_errors: leave out what does not fit instead of raising; ``problems`` lists it.
    """

    split: str = "train"
    task: str = "instance"
    background: str = "background"
    val_share: float | None = None
    skip_errors: bool = False


class OwnCoco(Dataset):
    """Images with the objects that a COCO JSON file outlines, for any task.

    Annotations without a mask are left out, and a log line counts them. A file of nothing else is refused. Crowd
    regions are void in training, unless the task is semantic. Images without objects are kept.

    Args:
        annotations: the JSON file.
        places: where its images may lie.
        partner: the file of the other split, whose categories are classes, too; None where there is none.
        options: split, task and the like.

    Raises:
        UserError: if the JSON file is not what it must be, or an image is nowhere. Reading an item raises it if an
            image is damaged or of another size, or an annotation is no mask of its image.
    """

    exif: bool = True  # turn images as their orientation says

    def __init__(self, annotations: Path, places: ImagePlaces, partner: Path | None, options: OwnCocoOptions) -> None:
        self.annotations = annotations
        content = read_own_annotations(annotations)
        _check_kind(content, annotations)
        with reading(annotations, "an annotation file in the COCO format"):
            classes = own_classes(content, annotations, partner, options.split)
            images, self.problems = _images(content, annotations, places)
            objects, strange = _objects(content, annotations, images)
        self.problems += strange
        if self.problems and not options.skip_errors:
            raise UserError(self.problems[0])
        found = {number: image for number, image in images.items() if image.path is not None}
        if not found:
            raise UserError(self.problems[0] if self.problems else f"{annotations} lists no image.")
        table, self.background = classes.table, None
        if options.task != "instance":
            table, self.background = with_background(table, options.background)
        elif not table.things:
            raise UserError(f'{annotations}: every category has "isthing": 0, so that there is no instance.')
        self.view = TaskView("coco", table, options.task)
        self.class_of_id = classes.class_of_id
        self.left_out = _stuff_ids(classes.class_of_id, table) if options.task == "instance" else set()
        names = _names(found, annotations)
        chosen = set(names.values())
        if options.val_share is not None:
            chosen = set(split_by_name(names.values(), options.split, options.val_share, str(annotations)))
        self.records = PackedList(
            [str(image.path), image.size, objects.get(number, []), names[number]]
            for number, image in found.items()
            if names[number] in chosen
        )
        ids = (*classes.ids, *([_free_id(classes.ids)] * (len(table.classes) - len(classes.ids))))
        kept = tuple(number for number, new in zip(ids, self.view.new_class.tolist(), strict=True) if new >= 0)
        self.info = self.view.info.with_file_ids(
            FileIds(kept, {name: number for number, name in names.items() if name in chosen})
        )

    def __len__(self) -> int:
        return len(self.records)

    def image_file(self, index: int) -> Path:
        """Return the file of an image."""
        return Path(self.records[index][0])

    def __getitem__(self, index: int) -> Sample:
        file, size, objects, name = self.records[index]
        path = Path(file)
        image = read_image(path, exif=self.exif)
        found = (int(image.shape[-2]), int(image.shape[-1]))
        if size is not None and list(found) != size:
            raise UserError(
                f"{path} is {found[1]}x{found[0]} pixels, but {self.annotations} says {size[1]}x{size[0]}: its masks "
                f"do not fit; export images and annotations together.{turned_hint(size, found)}"
            )
        outlines = [self._outline(one, path.name, found) for one in objects if one[1] not in self.left_out]
        return sample_of_outlines(image, name, outlines, self.view, self.annotations, background=self.background)

    def _outline(self, record: list[Any], file: str, size: tuple[int, int]) -> Outline:
        number, category, segmentation, crowd, area = record
        where = f"annotation {printable(number)} of {printable(file)}"
        if category not in self.class_of_id:
            known = ", ".join(map(str, list(self.class_of_id)[:_SHOWN]))
            raise UserError(
                f'{self.annotations}: {where} has the category {printable(category)}, which "categories" does not '
                f"list: add it there (it lists {known}{', ...' if len(self.class_of_id) > _SHOWN else ''})."
            )
        try:
            check_inside(segmentation, size)
        except ValueError as error:
            raise UserError(
                f"{self.annotations}: {where} {why(error)}; data.on_error=skip leaves its image out."
            ) from None
        return Outline(where, self.class_of_id[category], segmentation, bool(crowd), area)


@dataclass
class _Image:
    name: str  # as the file has it
    size: list[int] | None  # height, width
    path: Path | None = None
    below: str = ""  # its name below the folder where it is


def _check_kind(content: dict[str, Any], path: Path) -> None:
    """Raise if the annotations are of another of COCO's kinds, or there are none."""
    annotations = content["annotations"]
    first = annotations[0] if annotations else None
    if not content["images"]:
        raise UserError(f"{path} lists no image.")
    if not annotations:
        raise UserError(f"{path} has no annotation at all: export it after labelling, or give another file.")
    if isinstance(first, dict) and "category_id" not in first and "caption" in first:
        raise UserError(f"{path} holds captions, not objects: give the file of instances.")


def _images(content: dict[str, Any], path: Path, places: ImagePlaces) -> tuple[dict[Any, _Image], list[str]]:
    """Return the images by their id, and what is wrong with some: those without a file have no path."""
    images: dict[Any, _Image] = {}
    owners: dict[Path, Any] = {}
    missing: list[str] = []
    for record in content["images"]:
        number, name = _identity(field(record, "id", "image", path, REAL + TEXT)), _file_name(record, path)
        if number in images:
            raise UserError(f"{path}: the image id {printable(number)} occurs twice.")
        images[number] = image = _Image(name, _size(record, name, path))
        place = places.find(name)
        if place is None:
            missing.append(name)
            continue
        image.path, image.below = place
        if (owner := owners.setdefault(image.path, number)) != number:
            raise UserError(
                f"{path}: the images {printable(owner)} and {printable(number)} have one file, {image.path}: results "
                "could not tell them apart."
            )
    if not missing:
        return images, []
    skip = "" if len(missing) == len(images) else ", or data.on_error=skip to go on without them"
    are = "is" if len(missing) == 1 else "are"
    return images, [
        f"{path}: {len(missing)} of its {len(images)} images {are} not there, the first is {printable(missing[0])}: "
        f"set data.train_images and data.val_images to their folders{skip} (looked in {places.where()})."
    ]


def _file_name(record: Any, path: Path) -> str:
    return field(record, "file_name", "image", path, TEXT)


def _size(record: dict[str, Any], name: str, path: Path) -> list[int] | None:
    """Return height and width of an image as the file gives them; None where it does not."""
    if record.get("height") is None or record.get("width") is None:
        return None
    size = [field(record, key, "image", path, REAL) for key in ("height", "width")]
    if size == [0, 0]:  # how some tools write "not known"
        return None
    if not all(side > 0 and side == int(side) for side in size):
        raise UserError(
            f"{path}: the image {printable(name)} must have a positive size, got {size[1]}x{size[0]} pixels."
        )
    return [int(side) for side in size]


def _objects(content: dict[str, Any], path: Path, images: dict[Any, _Image]) -> tuple[dict[Any, list[Any]], list[str]]:
    """Return the objects of each image, [[id, category, segmentation, crowd, area], ...], and what does not fit."""
    objects: dict[Any, list[Any]] = {}
    problems: list[str] = []
    boxes: list[str] = []
    seen: set[Any] = set()
    twice = 0
    for place, annotation in enumerate(content["annotations"]):
        if isinstance(annotation, dict) and annotation.get("id") is None:
            annotation = {**annotation, "id": place}
        number, image_id, category = (
            _identity(field(annotation, key, "annotation", path, REAL + TEXT))
            for key in ("id", "image_id", "category_id")
        )
        twice += number in seen
        seen.add(number)
        image_id = _known(image_id, images)
        if image_id is None:
            unknown = printable(annotation["image_id"])
            problems.append(
                f'{path}: annotation {printable(number)} is of image {unknown}, which is not among "images".'
            )
            continue
        segmentation = annotation.get("segmentation")
        if has_no_mask(segmentation):
            boxes.append(f"{printable(number)} of {printable(images[image_id].name)}")
            continue
        segmentation = field(annotation, "segmentation", "annotation", path, LIST_OR_OBJECT)
        crowd = field(annotation, "iscrowd", "annotation", path, NUMBER, default=0)
        area = field(annotation, "area", "annotation", path, REAL) if annotation.get("area") else None
        objects.setdefault(image_id, []).append([number, category, _polygons(segmentation), crowd, area])
    if twice:
        _log.warning("%s", printable(f"{path}: {twice} annotation ids occur more than once; all annotations are read"))
    report_boxes(boxes, len(content["annotations"]), path)
    return objects, problems


def _identity(value: Any) -> Any:
    """Return an id as a whole number where it is one: tables write 7 as 7.0."""
    return int(value) if isinstance(value, float) and value == int(value) else value


def _known(number: Any, images: dict[Any, _Image]) -> Any:
    """Return the id by which an image is known, "7" for 7 and 7 for "7"; None where it is not."""
    if number in images:
        return number
    other = str(number) if not isinstance(number, str) else int(number) if number.isdecimal() else None
    return other if other in images else None


def _polygons(segmentation: Any) -> Any:
    """Return a segmentation as lists of polygons: some tools write one polygon as one flat list."""
    if isinstance(segmentation, list) and all(type(value) in (int, float) for value in segmentation):
        return [segmentation]
    if isinstance(segmentation, list):  # and leave empty ones beside others
        return [polygon for polygon in segmentation if polygon != []]
    return segmentation


def _names(images: dict[Any, _Image], path: Path) -> dict[Any, str]:
    """Return what each image is called: its path below the folder where it is, without ending where that is enough."""
    below = [image.below for image in images.values()]
    if len(set(below)) < len(below):  # in different folders
        below = [PurePosixPath(*PurePosixPath(str(image.path)).parts[-4:]).as_posix() for image in images.values()]
    return dict(zip(images, sample_names(below), strict=True))


def _stuff_ids(class_of_id: dict[Any, int], table: ClassTable) -> set[Any]:
    return {number for number, label in class_of_id.items() if label not in table.things}


def _free_id(ids: Sequence[Any]) -> int:
    """Return an id for the background, which no category has."""
    return 0 if 0 not in ids else max(number for number in ids if isinstance(number, int)) + 1
