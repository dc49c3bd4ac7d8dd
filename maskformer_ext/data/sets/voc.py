"""The user's own masks in Pascal VOC's layout, which CVAT exports as "Segmentation mask 1.1"."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskformer_ext.config import DataConfig
from maskformer_ext.data.classes import ClassTable, configured_classes, find_classes_file
from maskformer_ext.data.description import Description, Recognition
from maskformer_ext.data.formats.voc_colors import VOID, VOID_COLOR, agrees_with_voc, voc_table
from maskformer_ext.data.layouts.folders import some_files
from maskformer_ext.data.layouts.voc import VocLayout, find_voc, read_list
from maskformer_ext.data.layouts.words import count_images, name_classes
from maskformer_ext.data.listing import list_files
from maskformer_ext.errors import UserError

if TYPE_CHECKING:
    from maskformer_ext.data.readers.voc import VocClasses, VocObjects

_PNG = (".png",)
_LOOKED = 24
_BACKGROUND = ("background", "_background_")  # as CVAT and LabelMe call it


def build(config: DataConfig, root: Path, split: str) -> VocClasses | VocObjects:
    """Return a split: masks of instances for the tasks that know them, else masks of classes."""
    from maskformer_ext.data.readers.voc import VocClasses, VocObjects

    layout = find_voc(root)
    if layout is None:
        raise UserError(f"{root} holds no SegmentationClass beside JPEGImages: docs/data.md shows the layout.")
    table, skip = _classes(layout, config), config.on_error == "skip"
    if config.task == "semantic":
        return VocClasses(layout, table, split, share=config.val_share, skip_errors=skip)
    if layout.objects is None:
        raise UserError(
            f"data.task={config.task} needs masks of instances, but {layout.root / 'SegmentationObject'} is missing: "
            "set data.task=semantic."
        )
    return VocObjects(layout, table, split, task=config.task, share=config.val_share, skip_errors=skip)


def recognise(root: Path) -> Recognition | None:
    """Return what a folder with SegmentationClass and JPEGImages, a list or a labelmap holds."""
    layout = find_voc(root)
    if layout is None:
        return None
    table = _classes(layout, DataConfig())
    task = "instance" if _tells_instances_apart(layout) else "semantic"
    train, val = (layout.list_of(split) for split in ("train", "val"))
    if train is not None and val is not None:
        said = count_images(len(read_list(train)), len(read_list(val)))
    else:
        whole = layout.whole_list()
        count = len(read_list(whole)) if whole is not None else len(list_files(layout.classes, _PNG).files)
        said = count_images(count, None)
    kind = "masks of instances and classes" if task == "instance" else "masks of classes"
    said = f"images with {kind} in Pascal VOC's layout, {said}, {name_classes(table.classes)}"
    return Recognition("voc", task, said)


def _classes(layout: VocLayout, config: DataConfig) -> ClassTable:
    """Return the classes of a classes file, or VOC's own where the masks have its colours."""
    if find_classes_file(config, layout.root) is None:
        paths = list(zip(range(_LOOKED), some_files(layout.classes, _PNG), strict=False))
        if not paths:
            raise UserError(f"{layout.classes} holds no PNG file: put the masks there.")
        for _, path in paths:
            if not agrees_with_voc(path):
                raise UserError(
                    f"{path} has other values or colours than Pascal VOC's 21 classes: name the classes in "
                    f"{layout.root / 'labelmap.txt'}, one line name:red,green,blue:: each, or in a classes.txt."
                )
        return voc_table()
    table = configured_classes(config, layout.root)
    if len(table.classes) > VOID:
        raise UserError(
            f"{layout.root}: masks in Pascal VOC's layout hold 255 classes at most, got {len(table.classes)}."
        )
    if 0 < len(table.things) < len(table.classes):
        return table
    return replace(table, things=tuple(i for i, name in enumerate(table.classes) if name.lower() not in _BACKGROUND))


def _tells_instances_apart(layout: VocLayout) -> bool:
    """Return whether the masks of some images hold more instances than classes."""
    if layout.objects is None:
        return False
    for _, path in zip(range(_LOOKED), some_files(layout.objects, _PNG), strict=False):
        partner = layout.classes / path.relative_to(layout.objects)
        if partner.is_file() and _count(path) > _count(partner):
            return True
    return False


def _count(path: Path) -> int:
    """Return how many values or colours a mask holds beside background and void."""
    from maskformer_ext.data.formats.labels import read_color_ids, read_label
    from maskformer_ext.media.decoding import open_image

    with open_image(path, "a label image") as image:
        colored = image.mode == "RGB"
    found = np.unique(read_color_ids(path) if colored else read_label(path))
    return len(set(found.tolist()) - {0, VOID_COLOR if colored else VOID})


DESCRIPTION = Description(
    title="Your own masks in Pascal VOC's layout",
    tasks=("semantic", "instance", "panoptic"),
    usual_task="semantic",
    build=build,
    own_classes=True,
    recognise=recognise,
    no_recipe="config=folder recognises it, and takes the recipe of its task",
)
