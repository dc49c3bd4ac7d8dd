"""Where a data set lies, and whether anything is there: told without reading a file, and without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from maskformer_ext.config import DataConfig
from maskformer_ext.data.sources import SOURCES, Source, canonical_name, source_root
from maskformer_ext.errors import UserError

TASKS_OF = {
    "digits": ("semantic", "instance", "panoptic"),
    "camvid": ("semantic",),
    "nuclei": ("semantic", "instance", "panoptic"),
    "semantic_folder": ("semantic",),
    "instance_folder": ("semantic", "instance", "panoptic"),
    **{name: source.tasks for name, source in SOURCES.items()},
}
"""The values of ``data.task`` that each data set serves."""

FOLDER_SETS = ("semantic_folder", "instance_folder")
_OTHER_SPLIT = {"train": ("val", "test"), "val": ("train",)}
_FOLDERS = {"camvid": ("images", "labels"), "nuclei": ("images", "instances")}


def check_location(config: DataConfig, splits: Sequence[str]) -> None:
    """Check that a data set and its folders are there, before anything is imported to read them.

    Args:
        config: which data set, and where.
        splits: "train", "val" or both.

    Raises:
        UserError: for a data set or task that does not exist, and for the first folder that is missing.
    """
    name = check_name(config)
    if name == "digits":
        return
    root = find_root(config)
    if name in SOURCES:
        source = SOURCES[name]
        if missing := missing_paths(source, source_root(source, root), splits):
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            command = f"python -m maskformer_ext.prepare {name} {root}"
            raise UserError(f"{missing[0]}{more} `{command}` says what belongs where.")
        return
    for split in splits:
        for folder in split_folders(config, split):
            if not (root / folder).is_dir():
                raise UserError(
                    f"the folder {root / folder} is missing: check data.root and the paths below it in the "
                    "configuration."
                )


def check_name(config: DataConfig) -> str:
    """Return the name under which a data set is known.

    Raises:
        UserError: if the name, the task or ``on_error`` is none that exists.
    """
    name = canonical_name(config.name)
    for key, value, allowed in (
        ("name", name, tuple(TASKS_OF)),
        ("task", config.task, TASKS_OF.get(name, ())),
        ("on_error", config.on_error, ("raise", "skip")),
    ):
        if value not in allowed:
            of = f" for {name}" if key == "task" else ""
            raise UserError(f"data.{key} must be {' or '.join(allowed)}{of}, got {value!r}.")
    if config.max_pixels < 0:
        raise UserError(
            f"data.max_pixels must be a number of pixels, or 0 for the usual limit, got {config.max_pixels}."
        )
    return name


def find_root(config: DataConfig) -> Path:
    """Return the folder of a data set: ``data.root``, or its folder below ``MASKFORMER_EXT_DATA``.

    Raises:
        UserError: if neither is set, or the folder is missing.
    """
    name = canonical_name(config.name)
    # Below MASKFORMER_EXT_DATA each data set has a folder of its own; COCO's two share one.
    folder = SOURCES[name].folder if name in SOURCES else {"camvid": "camvid", "nuclei": "nuclei"}.get(name)
    if config.root:
        root = Path(config.root).expanduser()
    elif folder and os.environ.get("MASKFORMER_EXT_DATA"):
        root = Path(os.environ["MASKFORMER_EXT_DATA"]) / folder
    else:
        raise UserError(
            f"data.root is not set: give the folder of {name}"
            + (" (or of all data sets in MASKFORMER_EXT_DATA)." if folder else ".")
        )
    if not root.is_dir():
        problem = "is a file" if root.exists() else "is missing"
        raise UserError(f"the folder {root} {problem}: set data.root to the folder of {name}.")
    return root


def split_folders(config: DataConfig, split: str) -> tuple[str, str]:
    """Return where images and labels of a split of a paired data set lie, as paths below the root."""
    if config.name in _FOLDERS:
        images, labels = _FOLDERS[config.name]
        return f"{split}/{images}", f"{split}/{labels}"
    if split == "train":
        return config.train_images, config.train_labels
    return config.val_images, config.val_labels


def missing_paths(source: Source, root: Path, splits: Sequence[str]) -> list[str]:
    """Return one sentence for each path below a root that a data set needs and that is not there.

    Args:
        source: the data set.
        root: its folder.
        splits: "train", "val" or both; what only another split needs is left out.
    """
    problems = []
    for alternatives, what in source.needs.items():
        belongs = [split for split in splits if not any(other in alternatives for other in _OTHER_SPLIT[split])]
        paths = [root / path for path in alternatives.split(" or ")]
        if not belongs or any(path.exists() for path in paths):
            continue
        sentence = f"{' or '.join(str(path) for path in paths)} is missing: expected the {what} there."
        archives = [path.with_name(f"{path.name}.zip") for path in paths]
        archives += [root / name for name in re.findall(r"\w+\.zip", what) if root / name not in archives]
        problems += [sentence + "".join(f" Unpack {archive}." for archive in archives if archive.is_file())]
    return problems
