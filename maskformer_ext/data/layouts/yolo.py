"""Where the images of a YOLO data set and their label files lie, without torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from maskformer_ext.config import DataConfig
from maskformer_ext.data.classes import find_classes_file, read_classes_file
from maskformer_ext.data.formats.yolo_yaml import find_yaml, listed_images, read_yolo_yaml
from maskformer_ext.data.layouts.folders import find_layout, has_files, some_files
from maskformer_ext.data.listing import list_files, sample_names
from maskformer_ext.data.splitting import split_by_name
from maskformer_ext.errors import UserError
from maskformer_ext.media.extensions import EXTENSIONS

TEXT = (".txt",)
_LABELS = "labels"


@dataclass(frozen=True)
class YoloLayout:
    """What a YOLO data set is made of.

    Attributes:
        root: the folder.
        file: that names the classes.
        names: of the classes.
        sources: for "train" and "val" the folders and list files of the images.
    """

    root: Path
    file: Path
    names: tuple[str, ...]
    sources: dict[str, tuple[Path, ...]]

    def images(self, split: str, share: float) -> list[tuple[str, Path]]:
        """Return name and path of each image of a split.

        Args:
            split: "train" or "val".
            share: ``data.val_share``, which draws the validation images where there are no others.

        Raises:
            UserError: if an image or folder is missing, or there is no image.
        """
        own = self.sources["val"] and self.sources["train"]
        found = _named(self.sources[split] if own else self.sources["train"] or self.sources["val"], self.root)
        if not found:
            raise UserError(f"{self.file}: there is no image for {split}: put images there, or correct the file.")
        if own:
            return found
        chosen = set(split_by_name([name for name, _ in found], split, share, str(self.root)))
        return [(name, path) for name, path in found if name in chosen]


def find_yolo(root: Path, config: DataConfig) -> YoloLayout | None:
    """Return what a folder holds if it is a YOLO data set; None where it is something else.

    Args:
        root: the folder.
        config: ``classes_file`` may name the ``data.yaml``.

    Raises:
        UserError: if it is one and cannot be read.
    """
    file = find_yaml(root, config.classes_file)
    layout = find_layout(root, TEXT)
    if file is not None:
        content = read_yolo_yaml(file, root)
        if any(content.sources.values()):
            return YoloLayout(root, file, content.names, content.sources)
        if layout is None:
            raise UserError(f"{file} names no folder of images: give 'train' and 'val', as in train: images/train.")
        return YoloLayout(root, file, content.names, _sources(root, layout.train, layout.val))
    if layout is None or not _belong_together(root / layout.train[0], root / layout.train[1]):
        return None
    named = find_classes_file(config, root)
    if named is None and (root / layout.train[1] / "classes.txt").is_file():
        named = root / layout.train[1] / "classes.txt"
    if named is None:
        raise UserError(
            f"{root / layout.train[1]} holds text files as YOLO has them, but nothing names their classes: write a "
            f"{root / 'data.yaml'} with names: [...], or a classes.txt with one name per line."
        )
    return YoloLayout(root, named, read_classes_file(named).classes, _sources(root, layout.train, layout.val))


def label_file(image: Path) -> Path:
    """Return where the labels of an image lie: the last folder "images" is "labels" there, or beside the image."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].lower() == "images":
            other = Path(*parts[:place], _LABELS, *parts[place + 1 :]).with_suffix(".txt")
            beside = image.with_suffix(".txt")
            return beside if os.path.isfile(beside) and not os.path.isfile(other) else other
    return image.with_suffix(".txt")


def _belong_together(images: Path, labels: Path) -> bool:
    """Return whether a text file has the name of an image, which lists of classes and notes have not."""
    names = {path.stem for path in some_files(images, EXTENSIONS)}
    return any(path.stem in names for path in some_files(labels, TEXT))


def _sources(root: Path, train: tuple[str, str], val: tuple[str, str]) -> dict[str, tuple[Path, ...]]:
    return {"train": (root / train[0],), "val": () if val == train else (root / val[0],)}


def _named(sources: tuple[Path, ...], root: Path) -> list[tuple[str, Path]]:
    """Return the images of folders and list files by their paths below the folder that holds all of them."""
    files: list[Path] = []
    for source in sources:
        if source.is_dir():
            listing = list_files(source, EXTENSIONS)
            files += listing.files.values()
            if not listing.files and has_files(source, TEXT):
                raise UserError(f"the folder {source} holds text files, but no image.")
        else:
            files += listed_images(source, root)
    files = [Path(os.path.normpath(file)) for file in dict.fromkeys(files)]
    if not files:
        return []
    folder = Path(os.path.commonpath([file.parent for file in files]))
    return list(zip(sample_names([file.relative_to(folder).as_posix() for file in files]), files, strict=True))
