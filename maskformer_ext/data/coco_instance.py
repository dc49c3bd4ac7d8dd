"""Instance segmentation in COCO's format: a JSON file with polygons and run lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from maskformer_ext.data.coco_json import LIST_OR_OBJECT, NUMBER, REAL, field, images_by_id, read_annotations
from maskformer_ext.data.packed import PackedList
from maskformer_ext.data.tables import Categories
from maskformer_ext.data.targets import drop_empty
from maskformer_ext.data.tasks import TaskView
from maskformer_ext.data.types import Sample, TrueInstance, Truth
from maskformer_ext.errors import UserError
from maskformer_ext.images import read_image
from maskformer_ext.ops.targets import VOID

_FAR = 10  # sides of the image; the rasteriser takes memory for every step of an outline


class CocoInstance(Dataset):
    """Images with instances; crowd regions are void. Images without instances are kept.

    Where masks overlap, the sample has all of them, and in its segment map the smaller one owns the pixel. Scores need
    the crowd regions and the areas of the file, too, which are the ``instances`` of the samples' ``truth``.

    Args:
        images: the folder of images.
        annotations: the JSON file.
        categories: the classes and their ids in the file; the things are kept.
        name: what reports call the data set.
        skip_errors: leave out annotations of unknown images instead of raising; ``problems`` lists them.

    Raises:
        UserError: if a folder or file is missing or the JSON file is not what it must be. Reading an item raises it if
            a file is damaged, sizes differ, a category is no class, or a mask is neither polygons nor run lengths.
    """

    def __init__(
        self,
        images: Path,
        annotations: Path,
        categories: Categories,
        *,
        name: str = "coco_instance",
        skip_errors: bool = False,
    ) -> None:
        if not images.is_dir():
            raise UserError(f"the folder {images} is missing: it holds the images of {name}.")
        self.images, self.annotations = images, annotations
        self.view = TaskView(name, categories.table, "instance")
        self.info = self.view.info
        self.class_of_category = {categories.ids[thing]: thing for thing in categories.table.things}
        records, self.problems = _records(read_annotations(annotations), annotations)
        if self.problems and not skip_errors:
            raise UserError(self.problems[0])
        if not records:
            raise UserError(f"{annotations} lists no image.")
        self.records = PackedList(records)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        file_name, size, instances = self.records[index]
        path = self.images / file_name
        image = read_image(path)
        if list(image.shape[-2:]) != size:
            raise UserError(
                f"{path} is {image.shape[-1]}x{image.shape[-2]} pixels, but {self.annotations} says "
                f"{size[1]}x{size[0]}."
            )
        masks, labels, whole = [], [], []
        for number, category, segmentation, crowd, area in instances:
            if category not in self.class_of_category:
                raise UserError(
                    f"{self.annotations}: annotation {number} of {file_name} has the category {category}, which is no "
                    f"category of {self.info.name}."
                )
            label = self.class_of_category[category]
            rle, mask = self._mask(segmentation, size, number)
            area = int(mask.sum()) if area is None else area
            whole.append(TrueInstance(int(self.view.new_class[label]), rle, area, bool(crowd)))
            if not crowd:
                labels.append(label)
                masks.append(mask)
        stack = np.array(masks, bool).reshape(-1, *size)
        drawn = stack.any((1, 2))  # a polygon may be too thin for a pixel
        stack = stack[drawn]
        segment_map = paint_smaller_on_top(stack)
        kept = self.view.new_class[np.array(labels, np.int64)[drawn]]
        overlap = stack.sum() > np.count_nonzero(segment_map != VOID)
        top, top_labels = drop_empty(segment_map, kept)
        return Sample(
            image=image,
            segment_map=torch.from_numpy(segment_map),
            labels=torch.from_numpy(kept),
            name=Path(file_name).stem,
            size=(size[0], size[1]),
            truth=Truth(torch.from_numpy(top), torch.from_numpy(top_labels), instances=tuple(whole)),
            masks=torch.from_numpy(stack) if overlap else None,
        )

    def _mask(self, segmentation: Any, size: list[int], number: Any) -> tuple[dict[str, Any], np.ndarray]:
        """Rasterise polygons or run lengths as COCO does: compressed run lengths, and (H, W) uint8."""
        from faster_coco_eval.core import mask as rle_tools

        height, width = size
        try:
            if isinstance(segmentation, list):
                if min(map(len, segmentation), default=0) < 4:
                    raise ValueError("a polygon must have x and y of three points or more")
                if not max(np.abs(polygon).max() for polygon in segmentation) < _FAR * max(size):  # NaN is no less
                    raise ValueError("a polygon must lie in the image or near it")
                rle = rle_tools.merge(rle_tools.frPyObjects(segmentation, height, width))
            elif list(segmentation["size"]) != size:
                raise ValueError(f"their size is {segmentation['size']!s:.40}, but the image's is {size}")
            elif isinstance(segmentation["counts"], list):
                rle = rle_tools.frPyObjects(segmentation, height, width)
            else:
                rle = segmentation
            mask = rle_tools.decode(rle)
        except (TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
            reason = str(error).strip() or type(error).__name__
            raise UserError(
                f"{self.annotations}: the segmentation of annotation {number} is neither polygons nor run lengths of "
                f"its image ({reason})."
            ) from None
        return rle, mask


def paint_smaller_on_top(masks: np.ndarray) -> np.ndarray:
    """Return the segment map (H, W) int32 of masks (T, H, W) bool: the smallest owns a pixel, VOID none."""
    segment_map = np.full(masks.shape[1:], VOID, np.int32)
    for index in np.argsort(-masks.sum((1, 2)), kind="stable").tolist():
        segment_map[masks[index]] = index
    return segment_map


def _records(content: dict[str, Any], path: Path) -> tuple[list[Any], list[str]]:
    """Return (image file, [height, width], [[id, category, segmentation, crowd, area], ...]) an image, and problems."""
    images, problems = images_by_id(content, path), []
    instances: dict[Any, list[Any]] = {number: [] for number in images}
    for annotation in content["annotations"]:
        image, number, category = (
            field(annotation, key, "annotation", path) for key in ("image_id", "id", "category_id")
        )
        segmentation = field(annotation, "segmentation", "annotation", path, LIST_OR_OBJECT)
        if image not in images:
            problems.append(f'{path}: annotation {number} is of image {image}, which is not among "images".')
        else:
            crowd = field(annotation, "iscrowd", "annotation", path, NUMBER, default=0)
            known = annotation.get("area") is not None  # else the mask tells it
            area = field(annotation, "area", "annotation", path, REAL) if known else None
            instances[image].append([number, category, segmentation, crowd, area])
    records = [
        (image["file_name"], [image["height"], image["width"]], instances[number]) for number, image in images.items()
    ]
    return records, problems
