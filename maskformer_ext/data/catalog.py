"""The one table of all data sets: a line here for each file in `sets/`, whose name is the value of ``data.name``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from maskformer_ext.data.description import Description, Distribution
from maskformer_ext.data.tables import load_categories

if TYPE_CHECKING:
    from maskformer_ext.data.types import DatasetInfo

_NAMES = (
    "digits",
    "camvid",
    "nuclei",
    "semantic_folder",
    "instance_folder",
    "coco",
    "yolo",
    "labelme",
    "voc",
    "huggingface",
    "ade20k",
    "ade20k_panoptic",
    "ade20k_full",
    "cityscapes",
    "coco_stuff_10k",
    "mapillary_vistas",
    "coco_panoptic",
    "coco_instance",
)

FOLDER = "folder"
"""The recipe and the ``data.name`` that stand for any format of own data: what lies in ``data.root`` decides."""

CATALOG: dict[str, Description] = {
    name: importlib.import_module(f"maskformer_ext.data.sets.{name}").DESCRIPTION for name in _NAMES
}
"""Every data set by the value of ``data.name``."""

PUBLIC: dict[str, Distribution] = {
    name: description.distribution for name, description in CATALOG.items() if description.distribution is not None
}
"""How the public ones are distributed."""


def canonical_name(name: str) -> str:
    """Return the name under which the catalog lists a data set ("ade20k" for "ade20k-150"), or what came."""
    plain = name.replace("-", "_").lower()
    for known, public in PUBLIC.items():
        if plain in (known, *public.aliases):
            return known
    return name


def known_classes(name: str, task: str) -> DatasetInfo | None:
    """Return the classes of a public data set as a task sees them, without its files; None for other data sets."""
    name = canonical_name(name)
    if name not in PUBLIC or task not in CATALOG[name].tasks:
        return None
    from maskformer_ext.data.tasks import TaskView

    public = PUBLIC[name]
    return TaskView(name, load_categories(public.table).table, task, ignore_label=public.ignore_label).info
