"""What a file in `sets/` describes: a data set's names, tasks and folders, and how it is built and converted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskformer_ext.config import DataConfig

Build = Callable[[DataConfig, Path, str], Any]


@dataclass(frozen=True)
class Recognition:
    """What a folder was found to hold.

    Attributes:
        name: the value of ``data.name`` that reads it.
        task: "instance" where its labels tell instances apart, else "semantic".
        said: what was found, in words: the format and who writes it so, how many images, how many classes.
        keys: other values below ``data`` that reading it needs, by their names there.
        inside: the folder below it in which all was found; "" where the files lie as they should.
    """

    name: str
    task: str
    said: str
    keys: dict[str, Any] = field(default_factory=dict)
    inside: str = ""


Recognise = Callable[[Path], Recognition | None]


@dataclass(frozen=True)
class Distribution:
    """What a public data set looks like as its authors distribute it.

    Attributes:
        download: where to get it.
        table: its classes in `maskformer_ext.data.tables`.
        images: how many images each split has.
        needs: paths below the root, and what they are; alternatives are separated by " or ".
        aliases: other names that commands and configurations accept, as are hyphens.
        ignore_label: void in its semantic label maps.
    """

    download: str
    table: str
    images: dict[str, int]
    needs: dict[str, str]
    aliases: tuple[str, ...] = field(default=())
    ignore_label: int = 255


@dataclass(frozen=True)
class Conversion:
    """What can be made of a split of a data set.

    Attributes:
        what: one phrase for print.
        faster: whether the loaders of this package read the result and gain by it; otherwise it is for other tools.
        task: the task of the data set that is read.
        outputs: from root and split to the paths that are made. Folders have another name until the split is complete.
            Empty where the results lie beside the files as distributed.
        job: from data set, root and split to a function that converts the sample of an index.
        finish: called last, with data set, root, split and what the jobs returned.
    """

    what: str
    faster: bool
    task: str
    outputs: Callable[[Path, str], list[Path]]
    job: Callable[[Any, Path, str], Callable[[int], Any]]
    finish: Callable[[Any, Path, str, list[Any]], None] | None = None

    def is_done(self, root: Path, split: str) -> bool:
        """Return whether everything is there under its final name."""
        outputs = self.outputs(root, split)
        return bool(outputs) and all(path.exists() for path in outputs)

    def complete(self, root: Path, split: str) -> None:
        """Rename the folders from `partial` to their final names."""
        for path in self.outputs(root, split):
            if partial(path).is_dir():
                partial(path).rename(path)


@dataclass(frozen=True)
class Description:
    """A data set, told without its files and without torch.

    Attributes:
        title: its name in print.
        tasks: the values of ``data.task`` that it serves.
        usual_task: the one that recipes and `prepare` take.
        build: from configuration, root and split to the data set. Those that read files have ``problems`` and ``exif``.
        folder: what its folder is usually called, below ``MASKFORMER_EXT_DATA`` too; "" for data of the user's own.
        split_folders: from configuration and split to the folders below the root, where these are all that it needs.
        distribution: how a public data set is distributed; None for others.
        conversion: what `prepare` can make of its files.
        generated: there are no files.
        own_classes: the user names the classes.
        recognise: from a folder to what it holds, without torch and within a moment; None where it is another format.
            It raises a ``UserError`` where a folder is of this format, but cannot be read. Formats of the user's own
            data have it.
        recognise_given: from a configuration that names its files otherwise than by a folder in ``data.root`` to what
            they hold; None where it does not.
        locate: from a configuration to what its paths are relative to, where it needs no folder in ``data.root``; None
            where it does.
        no_recipe: why no recipe trains on it; "" where one does.
    """

    title: str
    tasks: tuple[str, ...]
    usual_task: str
    build: Build
    folder: str = ""
    split_folders: Callable[[DataConfig, str], tuple[str, str]] | None = None
    distribution: Distribution | None = None
    conversion: Conversion | None = None
    generated: bool = False
    own_classes: bool = False
    recognise: Recognise | None = None
    recognise_given: Callable[[DataConfig], Recognition | None] | None = None
    locate: Callable[[DataConfig], Path | None] | None = None
    no_recipe: str = ""


def partial(path: Path) -> Path:
    """Return what a folder is called until it is complete."""
    return path.with_name(f"{path.name}.partial")


def in_pattern(path: str) -> tuple[str, str]:
    """Return the folder of a configured path, and how the names of its files end: "" where it does not say.

    Args:
        path: below the root: "masks", or "masks/*_mask.png".
    """
    folder, _, ending = path.partition("*")
    return folder.rstrip("/") or ".", ending


def plain_folders(config: DataConfig, split: str) -> tuple[str, str]:
    """Return the folders of `configured_folders` without their patterns."""
    images, labels = configured_folders(config, split)
    return in_pattern(images)[0], in_pattern(labels)[0]


def configured_folders(config: DataConfig, split: str) -> tuple[str, str]:
    """Return where images and labels of a split of the user's own data lie, as paths below the root.

    A path may end with ``*`` and how the names of the files end.
    """
    if split == "train":
        return config.train_images or "train/images", config.train_labels or "train/labels"
    return config.val_images or "val/images", config.val_labels or "val/labels"
