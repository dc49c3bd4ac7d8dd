"""Own data in COCO's JSON as annotation tools export it: drawn images, or some of COCO's, laid out by each tool."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("bolt", "nut")


@dataclass
class Picture:
    """An image and its objects.

    Attributes:
        name: file name.
        size: width, height.
        source: the file; None: it is drawn.
        objects: class name and COCO's segmentation of each.
        more: other values of the objects' annotations, by place.
    """

    name: str
    size: tuple[int, int]
    source: Path | None
    objects: list[tuple[str, Any]] = field(default_factory=list)
    more: dict[int, dict[str, Any]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the image."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.source is not None:
            shutil.copy(self.source, path)
            return
        image = Image.fromarray(
            np.random.default_rng(len(self.objects)).integers(0, 90, (*self.size[::-1], 3), np.uint8)
        )
        draw = ImageDraw.Draw(image)
        for name, polygons in self.objects:
            draw.polygon([*polygons[0]], fill=(230, 40, 40) if name == CLASSES[0] else (40, 90, 230))
        image.save(path)


def drawn(count: int, *, first: int = 0, size: tuple[int, int] = (96, 64)) -> list[Picture]:
    """Return images with two objects each, of the two classes, which do not touch."""
    pictures = []
    for number in range(first, first + count):
        left, top = 4 + 3 * (number % 5), 5 + 2 * (number % 7)
        box = [left, top, left + 24, top, left + 24, top + 20, left, top + 20]
        triangle = [60, top, 88, top + 4, 70, top + 30]
        objects = [(CLASSES[0], [box]), (CLASSES[1], [triangle])]
        pictures.append(Picture(f"part_{number:03d}.jpg", size, None, objects))
    return pictures


def of_coco(root: Path, split: str, count: int) -> list[Picture]:
    """Return the first images of COCO's files that have objects, with polygons and run lengths."""
    content = json.loads((root / "annotations" / f"instances_{split}2017.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    pictures = []
    for image in content["images"]:
        mine = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        if mine:
            objects = [(names[one["category_id"]], one["segmentation"]) for one in mine]
            more = {place: {"iscrowd": one["iscrowd"], "area": one["area"]} for place, one in enumerate(mine)}
            file = root / f"{split}2017" / image["file_name"]
            pictures.append(Picture(image["file_name"], (image["width"], image["height"]), file, objects, more))
    return pictures[:count]


def content_of(
    pictures: Sequence[Picture],
    *,
    classes: Sequence[str] = CLASSES,
    first_id: int = 1,
    name: Callable[[str], str] = str,
    sizes: bool = True,
    plain: bool = False,
) -> dict[str, Any]:
    """Return the content of an annotation file.

    Args:
        pictures: its images.
        classes: its categories, whose ids follow each other.
        first_id: of the categories.
        name: from a file's name to what the file calls the image.
        sizes: whether width and height are given.
        plain: leave out "iscrowd" and "area".
    """
    ids = {label: first_id + place for place, label in enumerate(classes)}
    images, annotations = [], []
    for number, picture in enumerate(pictures):
        size = {"width": picture.size[0], "height": picture.size[1]} if sizes else {}
        images.append({"id": number, "file_name": name(picture.name), **size})
        for place, (label, segmentation) in enumerate(picture.objects):
            record = {"id": len(annotations), "image_id": number, "category_id": ids[label], "bbox": [0, 0, 1, 1]}
            more = {} if plain else {"iscrowd": 0, **picture.more.get(place, {})}
            annotations.append({**record, "segmentation": segmentation, **more})
    categories = [{"id": number, "name": label} for label, number in ids.items()]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def classes_of(*splits: Sequence[Picture]) -> list[str]:
    """Return the names of all objects' classes, in the order in which they come."""
    return list(dict.fromkeys(label for pictures in splits for one in pictures for label, _ in one.objects))


def roboflow(root: Path, train: Sequence[Picture], val: Sequence[Picture]) -> Path:
    """Write what Roboflow exports: images beside the JSON, and a category 0 that only groups the others."""
    classes = classes_of(train, val)
    for split, pictures in (("train", train), ("valid", val), ("test", val[:1])):
        content = content_of(pictures, classes=classes)
        for category in content["categories"]:
            category["supercategory"] = "parts"
        content["categories"].insert(0, {"id": 0, "name": "parts", "supercategory": "none"})
        write_json(root / split / "_annotations.coco.json", content)
        for picture in pictures:
            picture.save(root / split / picture.name)
    return root


def cvat(root: Path, train: Sequence[Picture], val: Sequence[Picture]) -> Path:
    """Write what CVAT exports of a project with two subsets; of one without, where ``val`` is empty."""
    classes = classes_of(train, val)
    subsets = (("Train", train), ("Validation", val)) if val else (("default", train),)
    for subset, pictures in subsets:
        content = content_of(pictures, classes=classes)
        write_json(root / "annotations" / f"instances_{subset}.json", {"licenses": [], **content})
        for picture in pictures:
            picture.save(root / "images" / subset / picture.name)
    return root


def label_studio(root: Path, train: Sequence[Picture], val: Sequence[Picture] = ()) -> Path:
    """Write what Label Studio exports: one file, categories from 0, names with folders of its server."""
    pictures = [*train, *val]
    names = ["images/{}", "../../label-studio/data/media/upload/7/{}", "/data/upload/7/{}?d=x%20y"]
    content = content_of(pictures, classes=classes_of(pictures), first_id=0, plain=True)
    for number, image in enumerate(content["images"]):
        image["file_name"] = names[number % 3].format(f"{number:08x}-{image['file_name']}")
    write_json(root / "result.json", content)
    for number, picture in enumerate(pictures):
        picture.save(root / "images" / f"{number:08x}-{picture.name}")
    return root


def fiftyone(root: Path, train: Sequence[Picture], val: Sequence[Picture]) -> Path:
    """Write what FiftyOne exports: ``data`` and ``labels.json`` in the folder of each split."""
    classes = classes_of(train, val)
    for split, pictures in (("train", train), ("val", val)):
        write_json(root / split / "labels.json", content_of(pictures, classes=classes))
        for picture in pictures:
            picture.save(root / split / "data" / picture.name)
    return root


def coco_own(root: Path, train: Sequence[Picture], val: Sequence[Picture]) -> Path:
    """Write COCO's own layout, with files of other kinds beside those of instances."""
    classes = classes_of(train, val)
    for split, pictures in (("train", train), ("val", val)):
        content = content_of(pictures, classes=classes, first_id=7)
        write_json(root / "annotations" / f"instances_{split}2031.json", content)
        captions = [{"id": 1, "image_id": 0, "caption": "a table"}]
        write_json(root / "annotations" / f"captions_{split}2031.json", {**content, "annotations": captions})
        for picture in pictures:
            picture.save(root / f"{split}2031" / picture.name)
    return root


def one_file(root: Path, train: Sequence[Picture], val: Sequence[Picture] = ()) -> Path:
    """Write one file of any name, without sizes, beside one folder of any name."""
    pictures = [*train, *val]
    write_json(root / "my parts.json", content_of(pictures, classes=classes_of(pictures), sizes=False, plain=True))
    for picture in pictures:
        picture.save(root / "pictures" / picture.name)
    return root


LAYOUTS: dict[str, Callable[[Path, Sequence[Picture], Sequence[Picture]], Path]] = {
    "Roboflow": roboflow,
    "CVAT": cvat,
    "Label Studio": label_studio,
    "FiftyOne": fiftyone,
    "COCO": coco_own,
    "one file": one_file,
}
"""Writers of layouts by the tool: (folder, training images, validation images) to the folder."""
