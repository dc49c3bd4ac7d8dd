"""The public data sets: what each is called, where its files lie below a root, and what reads them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskformer_ext.data.tables import VOID_VALUES, load_categories

if TYPE_CHECKING:
    from maskformer_ext.data.coco_instance import CocoInstance
    from maskformer_ext.data.coco_panoptic import CocoPanoptic
    from maskformer_ext.data.pairs import PairedImages
    from maskformer_ext.data.types import DatasetInfo


def _later(module: str, name: str) -> Any:
    """Return a stand-in for a reader, which imports its module (and torch) when it is called first."""

    def read(*args: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(f"maskformer_ext.data.{module}"), name)(*args, **options)

    return read


ade20k = _later("ade20k", "ade20k")
ade20k_panoptic = _later("ade20k", "ade20k_panoptic")
ade20k_full = _later("ade20k_full", "Ade20kFull")
cityscapes = _later("cityscapes", "cityscapes")
coco_stuff = _later("coco_stuff", "CocoStuff")
mapillary_vistas = _later("mapillary", "mapillary_vistas")

Build = Callable[[Path, str, str, bool], "PairedImages | CocoInstance | CocoPanoptic"]


@dataclass(frozen=True)
class Source:
    """A public data set.

    Attributes:
        title: its name in print.
        folder: what the folder of the data set is usually called.
        table: its classes in `maskformer_ext.data.tables`.
        tasks: the values of ``data.task`` that it serves; the first is the usual one.
        build: from root, split, task and ``skip_errors`` to the data set.
        images: how many images each split has as distributed.
        needs: paths below the root, and what they are; alternatives are separated by " or ".
        aliases: other names that commands and configurations accept, as are hyphens.
        download: where it is to be had.
        ignore_label: void in its semantic label maps.
    """

    title: str
    folder: str
    table: str
    tasks: tuple[str, ...]
    build: Build
    images: dict[str, int]
    needs: dict[str, str]
    download: str
    aliases: tuple[str, ...] = field(default=())
    ignore_label: int = 255


_OTHER = {"train": "val", "val": "train"}


def coco_panoptic(root: Path, split: str, task: str, skip_errors: bool) -> CocoPanoptic:
    """Return a split of COCO panoptic 2017, 80 things and 53 stuff classes, or of other files in its layout."""
    from maskformer_ext.data.coco_panoptic import CocoPanoptic

    annotations = root / "annotations"
    return CocoPanoptic(
        root / f"{split}2017",
        annotations / f"panoptic_{split}2017",
        annotations / f"panoptic_{split}2017.json",
        load_categories("coco_panoptic"),
        task=task,
        skip_errors=skip_errors,
        partner=annotations / f"panoptic_{_OTHER[split]}2017.json",
    )


def coco_instance(root: Path, split: str, task: str, skip_errors: bool) -> CocoInstance:
    """Return a split of COCO 2017's instances, the 80 things, or of other files in its layout."""
    from maskformer_ext.data.coco_instance import CocoInstance

    annotations = root / "annotations"
    return CocoInstance(
        root / f"{split}2017",
        annotations / f"instances_{split}2017.json",
        load_categories("coco_panoptic"),
        skip_errors=skip_errors,
        partner=annotations / f"instances_{_OTHER[split]}2017.json",
    )


SOURCES: dict[str, Source] = {
    "ade20k": Source(
        title="ADE20K, 150 classes",
        folder="ADEChallengeData2016",
        table="ade20k",
        tasks=("semantic",),
        build=lambda root, split, task, skip: ade20k(root, split, skip_errors=skip),
        images={"train": 20210, "val": 2000},
        needs={
            "images/training": "training images",
            "images/validation": "validation images",
            "annotations/training or annotations_detectron2/training": "label images of the training images",
            "annotations/validation or annotations_detectron2/validation": "label images of the validation images",
        },
        download="ADEChallengeData2016.zip from sceneparsing.csail.mit.edu",
        aliases=("ade20k_150",),
    ),
    "ade20k_panoptic": Source(
        title="ADE20K panoptic, 150 classes",
        folder="ADEChallengeData2016",
        table="ade20k",
        tasks=("panoptic", "instance", "semantic"),
        build=lambda root, split, task, skip: ade20k_panoptic(root, split, task=task, skip_errors=skip),
        images={"train": 20210, "val": 2000},
        needs={
            "images/training": "training images",
            "images/validation": "validation images",
            "annotations/training or ade20k_panoptic_train.json": "label images of the training images",
            "annotations/validation or ade20k_panoptic_val.json": "label images of the validation images",
            "annotations_instance/training or ade20k_panoptic_train.json": "instance images of the training images",
            "annotations_instance/validation or ade20k_panoptic_val.json": "instance images of the validation images",
        },
        download="ADEChallengeData2016.zip and annotations_instance.tar from sceneparsing.csail.mit.edu",
        aliases=("ade20k_150_panoptic",),
    ),
    "ade20k_full": Source(
        title="ADE20K with its full vocabulary, 847 classes",
        folder="ADE20K_2021_17_01",
        table="ade20k_full",
        tasks=("semantic",),
        build=lambda root, split, task, skip: ade20k_full(root, split, skip_errors=skip),
        images={"train": 25574, "val": 2000},
        needs={
            "images/ADE/training or images_detectron2/training": "training images with their _seg.png",
            "images/ADE/validation or images_detectron2/validation": "validation images with their _seg.png",
        },
        download="ADE20K_2021_17_01.zip from groups.csail.mit.edu/vision/datasets/ADE20K",
        aliases=("ade20k_full_847",),
        ignore_label=VOID_VALUES["ade20k_full"],
    ),
    "cityscapes": Source(
        title="Cityscapes, 19 classes",
        folder="cityscapes",
        table="cityscapes",
        tasks=("semantic",),
        build=lambda root, split, task, skip: cityscapes(root, split, skip_errors=skip),
        images={"train": 2975, "val": 500},
        needs={
            "leftImg8bit/train": "training images (leftImg8bit_trainvaltest.zip)",
            "leftImg8bit/val": "validation images (leftImg8bit_trainvaltest.zip)",
            "gtFine/train": "labels of the training images (gtFine_trainvaltest.zip)",
            "gtFine/val": "labels of the validation images (gtFine_trainvaltest.zip)",
        },
        download="www.cityscapes-dataset.com",
        aliases=("cityscapes_19",),
    ),
    "coco_stuff_10k": Source(
        title="COCO-Stuff-10K, 171 classes",
        folder="coco_stuff_10k",
        table="coco_stuff_10k",
        tasks=("semantic",),
        build=lambda root, split, task, skip: coco_stuff(root, split, skip_errors=skip),
        images={"train": 9000, "val": 1000},
        needs={
            "images": "photographs",
            "annotations or annotations_detectron2": "labels",
            "imageLists/train.txt": "names of the training images",
            "imageLists/test.txt": "names of the test images",
        },
        download="cocostuff-10k-v1.0.zip, linked from github.com/nightrome/cocostuff10k",
        aliases=("coco_stuff_10k_171",),
    ),
    "mapillary_vistas": Source(
        title="Mapillary Vistas, 65 classes",
        folder="mapillary_vistas",
        table="mapillary_vistas",
        tasks=("semantic",),
        build=lambda root, split, task, skip: mapillary_vistas(root, split, skip_errors=skip),
        images={"train": 18000, "val": 2000},
        needs={
            "training/images": "training images",
            "training/labels or training/v1.2/labels": "labels of the training images",
            "validation/images": "validation images",
            "validation/labels or validation/v1.2/labels": "labels of the validation images",
        },
        download="www.mapillary.com/dataset/vistas",
        aliases=("mapillary_vistas_65",),
        ignore_label=VOID_VALUES["mapillary_vistas"],
    ),
    "coco_panoptic": Source(
        title="COCO panoptic 2017, 133 classes",
        folder="coco",
        table="coco_panoptic",
        tasks=("panoptic", "instance", "semantic"),
        build=coco_panoptic,
        images={"train": 118287, "val": 5000},
        needs={
            "train2017": "training images (train2017.zip)",
            "val2017": "validation images (val2017.zip)",
            "annotations/panoptic_train2017.json": "annotations (panoptic_annotations_trainval2017.zip)",
            "annotations/panoptic_val2017.json": "annotations (panoptic_annotations_trainval2017.zip)",
            "annotations/panoptic_train2017": "PNGs (panoptic_train2017.zip inside the annotations' zip)",
            "annotations/panoptic_val2017": "PNGs (panoptic_val2017.zip inside the annotations' zip)",
        },
        download="cocodataset.org",
        aliases=("coco_panoptic_133",),
    ),
    "coco_instance": Source(
        title="COCO instances 2017, 80 classes",
        folder="coco",
        table="coco_panoptic",
        tasks=("instance",),
        build=coco_instance,
        images={"train": 118287, "val": 5000},
        needs={
            "train2017": "training images (train2017.zip)",
            "val2017": "validation images (val2017.zip)",
            "annotations/instances_train2017.json": "annotations (annotations_trainval2017.zip)",
            "annotations/instances_val2017.json": "annotations (annotations_trainval2017.zip)",
        },
        download="cocodataset.org",
        aliases=("coco_instance_80",),
    ),
}


def canonical_name(name: str) -> str:
    """Return the name under which ``SOURCES`` lists a data set ("ade20k" for "ade20k-150"), or what came."""
    plain = name.replace("-", "_").lower()
    for known, source in SOURCES.items():
        if plain == known or plain in source.aliases:
            return known
    return name


def source_root(source: Source, root: Path) -> Path:
    """Return the folder of a data set, given this folder or the one around it."""
    for inside in (root / source.folder, root / "coco" / source.folder):  # COCO-Stuff-10K is often put beside COCO
        if inside.is_dir():
            return inside
    return root


def known_classes(name: str, task: str) -> DatasetInfo | None:
    """Return the classes of a public data set as a task sees them, without its files; None for other data sets."""
    name = canonical_name(name)
    source = SOURCES.get(name)
    if source is None or task not in source.tasks:
        return None
    from maskformer_ext.data.tasks import TaskView

    return TaskView(name, load_categories(source.table).table, task, ignore_label=source.ignore_label).info
