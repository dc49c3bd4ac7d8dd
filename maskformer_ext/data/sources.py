"""The public data sets: what each is called, where its files lie below a root, and what reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from maskformer_ext.data.ade20k import ade20k, ade20k_panoptic
from maskformer_ext.data.coco_instance import CocoInstance
from maskformer_ext.data.coco_panoptic import CocoPanoptic
from maskformer_ext.data.tables import load_categories
from maskformer_ext.data.types import SampleDataset

Build = Callable[[Path, str, str, bool], SampleDataset]


@dataclass(frozen=True)
class Source:
    """A public data set.

    Attributes:
        title: its name in print.
        folder: what the folder of the data set is usually called.
        tasks: the values of ``data.task`` that it serves; the first is the usual one.
        build: from root, split, task and ``skip_errors`` to the data set.
        images: how many images each split has as distributed.
        needs: paths below the root, and what they are; alternatives are separated by " or ".
        aliases: other names that commands and configurations accept, as are hyphens.
        download: where it is to be had.
    """

    title: str
    folder: str
    tasks: tuple[str, ...]
    build: Build
    images: dict[str, int]
    needs: dict[str, str]
    download: str
    aliases: tuple[str, ...] = field(default=())


def coco_panoptic(root: Path, split: str, task: str, skip_errors: bool) -> CocoPanoptic:
    """Return a split of COCO panoptic 2017: 80 things, 53 stuff classes."""
    annotations = root / "annotations"
    return CocoPanoptic(
        root / f"{split}2017",
        annotations / f"panoptic_{split}2017",
        annotations / f"panoptic_{split}2017.json",
        load_categories("coco_panoptic"),
        task=task,
        skip_errors=skip_errors,
    )


def coco_instance(root: Path, split: str, task: str, skip_errors: bool) -> CocoInstance:
    """Return a split of COCO 2017's instances: the 80 things."""
    annotations = root / "annotations" / f"instances_{split}2017.json"
    categories = load_categories("coco_panoptic")
    return CocoInstance(root / f"{split}2017", annotations, categories, skip_errors=skip_errors)


SOURCES: dict[str, Source] = {
    "ade20k": Source(
        title="ADE20K, 150 classes",
        folder="ADEChallengeData2016",
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
    "coco_panoptic": Source(
        title="COCO panoptic 2017, 133 classes",
        folder="coco",
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
    inside = root / source.folder
    return inside if inside.is_dir() else root
