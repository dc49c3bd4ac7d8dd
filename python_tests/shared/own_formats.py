"""Writers of the formats in which people have labelled images: YOLO-seg, LabelMe, Pascal VOC and CVAT, plain masks."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskformer_ext.data.formats.voc_colors import voc_color

SIZE = (48, 64)  # height and width of the drawn images


@dataclass(frozen=True)
class Drawing:
    """An image with outlined objects.

    Attributes:
        name: of its files.
        pixels: (H, W, 3) uint8.
        objects: label and polygon [x, y, x, y, ...] in pixels of each.
    """

    name: str
    pixels: np.ndarray
    objects: tuple[tuple[str, list[float]], ...]

    def masks(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return (H, W) uint8 class numbers from 1 and uint16 instance numbers from 1; 0 outside."""
        from PIL import ImageDraw

        size = (self.pixels.shape[1], self.pixels.shape[0])
        classes, instances = Image.new("L", size), Image.new("I", size)
        for number, (label, polygon) in enumerate(self.objects, start=1):
            ImageDraw.Draw(classes).polygon(polygon, fill=names.index(label) + 1)
            ImageDraw.Draw(instances).polygon(polygon, fill=number)
        return np.array(classes), np.array(instances).astype(np.uint16)


def rectangle(left: float, top: float, right: float, bottom: float) -> list[float]:
    """Return the corners of a rectangle."""
    return [left, top, right, top, right, bottom, left, bottom]


def drawings(count: int, labels: Sequence[str] = ("cat", "dog"), *, start: int = 0) -> list[Drawing]:
    """Return drawn images with two objects each, of the first two labels in turn, which do not touch."""
    found = []
    for number in range(start, start + count):
        pixels = np.random.default_rng(number).integers(0, 60, (*SIZE, 3)).astype(np.uint8)
        objects = []
        for place in range(2):
            left = 4 + 30 * place
            pixels[8:32, left : left + 20] = (200, 60 + 140 * place, 40)
            objects.append((labels[(number + place) % len(labels)], rectangle(left, 8, left + 20, 32)))
        found.append(Drawing(f"picture_{number}", pixels, tuple(objects)))
    return found


def coco_drawings(root: Path, split: str, most: int = 12) -> Iterator[Drawing]:
    """Yield photos of COCO with the first polygon of each object."""
    content = json.loads((root / "annotations" / f"instances_{split}2017.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    for image in content["images"][:most]:
        pixels = np.array(Image.open(root / f"{split}2017" / image["file_name"]).convert("RGB"))
        objects = [
            (names[one["category_id"]], one["segmentation"][0])
            for one in content["annotations"]
            if one["image_id"] == image["id"] and isinstance(one["segmentation"], list)
        ]
        yield Drawing(Path(image["file_name"]).stem, pixels, tuple(objects))


def save_image(drawing: Drawing, folder: Path, ending: str = ".jpg") -> Path:
    """Write the pixels of a drawing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{drawing.name}{ending}"
    Image.fromarray(drawing.pixels).save(path)
    return path


def yolo_lines(drawing: Drawing, names: Sequence[str]) -> str:
    """Return the text file of a drawing."""
    height, width = drawing.pixels.shape[:2]
    lines = []
    for label, polygon in drawing.objects:
        shares = [value / (height if place % 2 else width) for place, value in enumerate(polygon)]
        lines.append(" ".join([str(names.index(label)), *(f"{share:.6f}" for share in shares)]))
    return "".join(f"{line}\n" for line in lines)


def write_yolo(
    root: Path,
    splits: dict[str, Sequence[Drawing]],
    names: Sequence[str],
    *,
    yaml: str | None = "path: .\ntrain: train/images\nval: valid/images\nnc: {count}\nnames: {names}\n",
    folder: str = "{split}/{part}",
) -> Path:
    """Write a YOLO-seg data set: "{split}/{part}" as Roboflow lays it out, or "{part}/{split}" as ultralytics does."""
    for split, found in splits.items():
        for drawing in found:
            save_image(drawing, root / folder.format(split=split, part="images"))
            labels = root / folder.format(split=split, part="labels")
            labels.mkdir(parents=True, exist_ok=True)
            (labels / f"{drawing.name}.txt").write_text(yolo_lines(drawing, names))
    if yaml is not None:
        (root / "data.yaml").write_text(yaml.format(count=len(names), names=json.dumps(list(names))))
    return root


def labelme(drawing: Drawing, image_path: str, **more: Any) -> dict[str, Any]:
    """Return the LabelMe file of a drawing."""
    height, width = drawing.pixels.shape[:2]
    shapes: list[dict[str, Any]] = [
        {
            "label": label,
            "points": [list(point) for point in zip(polygon[::2], polygon[1::2], strict=True)],
            "group_id": None,
            "shape_type": "polygon",
            "flags": {},
        }
        for label, polygon in drawing.objects
    ]
    return {
        **{"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": image_path, "imageData": None},
        **{"imageHeight": height, "imageWidth": width},
        **more,
    }


def write_labelme(folder: Path, found: Sequence[Drawing]) -> Path:
    """Write images with a LabelMe file beside each."""
    for drawing in found:
        path = save_image(drawing, folder)
        path.with_suffix(".json").write_text(json.dumps(labelme(drawing, path.name)))
    return folder


def base64_png(pixels: np.ndarray) -> str:
    """Return an image as the text that LabelMe keeps."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def write_palette(numbers: np.ndarray, path: Path) -> None:
    """Write numbers as a PNG file with VOC's palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(numbers.astype(np.uint8), "P")
    image.putpalette([channel for number in range(256) for channel in voc_color(number)])
    image.save(path)


def write_voc(
    root: Path,
    found: Sequence[Drawing],
    names: Sequence[str],
    *,
    lists: dict[str, Sequence[Drawing]],
    colors: bool = False,
    labelmap: bool = True,
) -> Path:
    """Write masks in VOC's layout; with ``colors`` in RGB, as CVAT exports them."""
    for drawing in found:
        save_image(drawing, root / "JPEGImages")
        for numbers, folder in zip(drawing.masks(names), ("SegmentationClass", "SegmentationObject"), strict=True):
            path = root / folder / f"{drawing.name}.png"
            if colors:
                path.parent.mkdir(parents=True, exist_ok=True)
                table = np.array([voc_color(number) for number in range(256)], np.uint8)
                Image.fromarray(table[numbers]).save(path)
            else:
                write_palette(numbers, path)
    for name, part in lists.items():
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        text = "".join(f"{drawing.name}\n" for drawing in part)
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(text)
    if labelmap:
        rows = ["# label:color_rgb:parts:actions"]
        for number, name in enumerate(("background", *names)):
            rows.append(f"{name}:{','.join(map(str, voc_color(number)))}::")
        (root / "labelmap.txt").write_text("\n".join(rows) + "\n")
    return root


def write_masks(root: Path, found: Sequence[Drawing], masks: Sequence[np.ndarray], image: str, mask: str) -> Path:
    """Write images and masks without a split.

    Args:
        root: the folder.
        found: the images.
        masks: (H, W) or (H, W, 3) of each.
        image: path of an image below the root, with "{}" for its name.
        mask: likewise.
    """
    for drawing, numbers in zip(found, masks, strict=True):
        for pixels, pattern in ((drawing.pixels, image), (numbers, mask)):
            path = root / pattern.format(drawing.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root
