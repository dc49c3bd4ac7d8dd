"""The user's own images with LabelMe's JSON files, one per image, which X-AnyLabeling writes too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Description, Recognition
from maskformer_ext.data.layouts.folders import some_files
from maskformer_ext.data.layouts.labelme import JSON, class_names, is_labelme, labelme_files, scan, split_folders
from maskformer_ext.data.layouts.words import count_images, name_classes

if TYPE_CHECKING:
    from maskformer_ext.data.readers.labelme import LabelMeFiles

_LOOKED = 200  # files whose labels recognition reads
_PEEKED = 5


def build(config: DataConfig, root: Path, split: str) -> LabelMeFiles:
    """Return a split: the files in folders such as ``train`` and ``val``, or drawn by their names."""
    from maskformer_ext.data.readers.labelme import LabelMeFiles

    return LabelMeFiles(root, config, split)


def recognise(root: Path) -> Recognition | None:
    """Return what a folder with LabelMe's JSON files holds."""
    if not any(is_labelme(path) for _, path in zip(range(_PEEKED), some_files(root, JSON), strict=False)):
        return None
    folders = split_folders(root)
    found = {split: labelme_files(folder)[0] for split, folder in (folders or {"train": root}).items()}
    every = sorted(path for files in found.values() for path in files.values())
    step = max(1, len(every) // _LOOKED)
    looked = every[::step][:_LOOKED]
    if not scan(looked).labels and not scan(looked).problems:
        return None
    names, named_by = class_names(root, DataConfig(), looked)
    more = " or more" if named_by is None and len(looked) < len(every) else ""
    said = count_images(len(found["train"]), len(found["val"]) if folders else None)
    return Recognition("labelme", "instance", f"images with LabelMe files, {said}, {name_classes(names, more)}")


DESCRIPTION = Description(
    title="Your own images with LabelMe files",
    tasks=("semantic", "instance", "panoptic"),
    usual_task="instance",
    build=build,
    own_classes=True,
    recognise=recognise,
    no_recipe="config=folder recognises it, and takes the recipe of its task",
)
