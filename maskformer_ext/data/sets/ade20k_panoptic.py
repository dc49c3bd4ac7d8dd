"""ADE20K with 100 thing and 50 stuff classes: the label images of ADE20K-150 and its instance images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Conversion, Description, Distribution
from maskformer_ext.data.sets.ade20k import FOLDERS
from maskformer_ext.data.tables import Categories, load_categories

if TYPE_CHECKING:
    from maskformer_ext.data.preparing.writers import WritePanoptic
    from maskformer_ext.data.readers.ade20k_panoptic import AdePanoptic
    from maskformer_ext.data.readers.coco_panoptic import CocoPanoptic


def build(config: DataConfig, root: Path, split: str) -> AdePanoptic | CocoPanoptic:
    """Return a split, from ``annotations`` and ``annotations_instance`` below the root.

    Where the latter is missing, the files are read that other tools convert them to: ``ade20k_panoptic_train.json``
    and the PNGs in ``ade20k_panoptic_train``, and ``val``.
    """
    from maskformer_ext.data.readers.ade20k_panoptic import AdePanoptic
    from maskformer_ext.data.readers.coco_panoptic import CocoPanoptic

    folder, skip = FOLDERS[split], config.on_error == "skip"
    images, instances = root / "images" / folder, root / "annotations_instance" / folder
    converted, annotations = _outputs(root, split)
    if not annotations.is_file() or instances.is_dir():
        return AdePanoptic(images, root / "annotations" / folder, instances, task=config.task, skip_errors=skip)
    categories = load_categories("ade20k")
    contiguous = Categories(tuple(range(len(categories.ids))), categories.table, categories.instance_ids)
    return CocoPanoptic(
        images,
        converted,
        annotations,
        contiguous,
        task=config.task,
        name="ade20k_panoptic",
        skip_errors=skip,
        partner=_outputs(root, "val" if split == "train" else "train")[1],
    )


def _outputs(root: Path, split: str) -> list[Path]:
    return [root / f"ade20k_panoptic_{split}", root / f"ade20k_panoptic_{split}.json"]


def _write(dataset: Any, root: Path, split: str) -> WritePanoptic:
    from maskformer_ext.data.preparing.writers import WritePanoptic, working_folder

    return WritePanoptic(dataset, working_folder(_outputs(root, split)[0]))


def _write_json(dataset: Any, root: Path, split: str, records: list[Any]) -> None:
    from maskformer_ext.data.preparing.writers import write_panoptic_json

    write_panoptic_json(dataset, _outputs(root, split)[1], records)


DESCRIPTION = Description(
    title="ADE20K panoptic, 150 classes",
    tasks=("panoptic", "instance", "semantic"),
    usual_task="panoptic",
    build=build,
    folder="ADEChallengeData2016",
    distribution=Distribution(
        download="ADEChallengeData2016.zip and annotations_instance.tar from sceneparsing.csail.mit.edu",
        table="ade20k",
        images={"train": 20210, "val": 2000},
        needs={
            "images/training": "training images",
            "images/validation": "validation images",
            "annotations/training or ade20k_panoptic_train.json": "label images of the training images",
            "annotations/validation or ade20k_panoptic_val.json": "label images of the validation images",
            "annotations_instance/training or ade20k_panoptic_train.json": "instance images of the training images",
            "annotations_instance/validation or ade20k_panoptic_val.json": "instance images of the validation images",
        },
        aliases=("ade20k_150_panoptic",),
    ),
    conversion=Conversion("panoptic PNGs and their JSON file", False, "panoptic", _outputs, _write, _write_json),
)
