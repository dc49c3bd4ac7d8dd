"""The user's own images in COCO's JSON, as Roboflow, CVAT, Label Studio and FiftyOne export it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.config import DataConfig
from maskformer_ext.data.classes import ClassTable
from maskformer_ext.data.description import Description
from maskformer_ext.data.formats.coco_peek import holds_segments
from maskformer_ext.data.layouts.coco import (
    CocoFiles,
    coco_files,
    image_folders,
    locate,
    panoptic_images,
    panoptic_pngs,
    recognise_coco,
    recognise_given,
)
from maskformer_ext.data.tables import Categories

if TYPE_CHECKING:
    from maskformer_ext.data.readers.coco_panoptic import CocoPanoptic
    from maskformer_ext.data.readers.own_coco import OwnCoco


def build(config: DataConfig, root: Path, split: str) -> OwnCoco | CocoPanoptic:
    """Return a split, from the files that the configuration names, or that lie as tools export them."""
    from maskformer_ext.data.formats.image_places import ImagePlaces
    from maskformer_ext.data.readers.own_coco import OwnCoco, OwnCocoOptions

    files = coco_files(config, root)
    annotations = files.of(split)
    if holds_segments(annotations):
        return _panoptic(config, root, split, files)
    options = OwnCocoOptions(
        split=split,
        task=config.task,
        background=config.background,
        val_share=config.val_share if files.val is None else None,
        skip_errors=config.on_error == "skip",
    )
    places = ImagePlaces(*image_folders(config, root, annotations, split))
    return OwnCoco(annotations, places, files.partner(split), options)


def _panoptic(config: DataConfig, root: Path, split: str, files: CocoFiles) -> CocoPanoptic:
    """Return a split of a panoptic file, whose images lie in one folder and whose PNGs in another."""
    from maskformer_ext.data.readers.coco_panoptic import CocoPanoptic

    annotations = files.of(split)
    return CocoPanoptic(
        panoptic_images(config, root, annotations, split),
        panoptic_pngs(config, root, annotations, split),
        annotations,
        Categories((), ClassTable((), ()), ()),  # no classes but the file's
        task=config.task,
        name="coco",
        skip_errors=config.on_error == "skip",
        partner=files.partner(split),
        split=split,
        val_share=config.val_share if files.val is None else None,
    )


DESCRIPTION = Description(
    title="Your own images in COCO's JSON",
    tasks=("instance", "semantic", "panoptic"),
    usual_task="instance",
    build=build,
    own_classes=True,
    locate=locate,
    recognise=recognise_coco,
    recognise_given=recognise_given,
    no_recipe="config=folder recognises it",
)
