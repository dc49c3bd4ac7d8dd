"""How folders of images and label images are recognised: where both lie, and whether labels tell instances apart."""

from __future__ import annotations

from pathlib import Path

from maskformer_ext.config import DataConfig
from maskformer_ext.data.classes import configured_classes
from maskformer_ext.data.description import Recognition, configured_folders
from maskformer_ext.data.listing import list_files
from maskformer_ext.media.decoding import EXTENSIONS


def recognise_folders(root: Path, *, instances: bool) -> Recognition | None:
    """Return what a folder holds whose images and label images lie where ``configured_folders`` says.

    Args:
        root: the folder.
        instances: whether label images of instances are meant; the classes file decides, by naming things.
    """
    config = DataConfig()
    splits = {split: [root / folder for folder in configured_folders(config, split)] for split in ("train", "val")}
    if not all(folder.is_dir() for folders in splits.values() for folder in folders):
        return None
    table = configured_classes(config, root)
    if bool(table.things and (table.id_divisor or len(table.things) < len(table.classes))) != instances:
        return None
    counts = {split: len(list_files(images, EXTENSIONS).files) for split, (images, _) in splits.items()}
    kind = "one image of instance ids each" if instances else "one label image each"
    said = f"images with {kind}, {counts['train']} for training and {counts['val']} for validation"
    classes = f"{len(table.classes)} class{'es' * (len(table.classes) != 1)}"
    name, task = ("instance_folder", "instance") if instances else ("semantic_folder", "semantic")
    return Recognition(name, task, f"{said}, {classes}")
