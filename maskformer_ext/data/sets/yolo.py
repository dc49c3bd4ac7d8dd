"""The user's own images with polygons in YOLO's text files, as ultralytics, Roboflow and Label Studio write them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Description, Recognition
from maskformer_ext.data.formats.yolo_labels import read_yolo
from maskformer_ext.data.layouts.words import count_images, name_classes
from maskformer_ext.data.layouts.yolo import YoloLayout, find_yolo, label_file
from maskformer_ext.errors import UserError

if TYPE_CHECKING:
    from maskformer_ext.data.readers.yolo import YoloFiles

_LOOKED = 50  # label files that recognition reads


def build(config: DataConfig, root: Path, split: str) -> YoloFiles:
    """Return a split, as the ``data.yaml`` or the folders say."""
    from maskformer_ext.data.readers.yolo import YoloFiles

    layout = find_yolo(root, config)
    if layout is None:
        raise UserError(
            f"{root} holds neither a data.yaml nor labels/*.txt beside images: docs/data.md shows the layout."
        )
    return YoloFiles(
        layout,
        split,
        share=config.val_share,
        task=config.task,
        background=config.background,
        skip_errors=config.on_error == "skip",
    )


def recognise(root: Path) -> Recognition | None:
    """Return what a folder with a ``data.yaml``, or with images and text files, holds."""
    layout = find_yolo(root, DataConfig())
    if layout is None:
        return None
    own = layout.sources["train"] and layout.sources["val"]
    counts = {split: layout.images(split, 0.5) for split in ("train", "val")} if own else {}
    images = counts["train"] if own else layout.images("train", 0)
    _refuse_boxes([path for _, path in images], layout)
    said = count_images(len(images), len(counts["val"]) if own else None, "images")
    said = f"YOLO polygons ({layout.file.name}), {said}, {name_classes(layout.names)}"
    return Recognition("yolo", "instance", said)


def _refuse_boxes(images: list[Path], layout: YoloLayout) -> None:
    """Raise where the first label files hold boxes only."""
    files = (file for image in images if os.path.isfile(file := label_file(image)))
    boxes = 0
    for _, file in zip(range(_LOOKED), files, strict=False):
        labels = read_yolo(file, len(layout.names))
        if labels.objects:
            return
        boxes += len(labels.boxes)
    if boxes:
        raise UserError(
            f"{layout.root}: its YOLO labels are boxes, not polygons, so there are no masks to learn: export the data "
            "for segmentation, as polygons."
        )


DESCRIPTION = Description(
    title="Your own images with YOLO polygons",
    tasks=("semantic", "instance", "panoptic"),
    usual_task="instance",
    build=build,
    own_classes=True,
    recognise=recognise,
    no_recipe="config=folder recognises it, and takes the recipe of its task",
)
