"""Where annotation files in COCO's JSON and their images lie, as annotation tools export them; found by names alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Recognition
from maskformer_ext.data.formats.coco_classes import class_names
from maskformer_ext.data.formats.coco_peek import (
    INSTANCES,
    PANOPTIC,
    Glance,
    first_image,
    glance,
    holds_masks,
    looks_like_coco,
)
from maskformer_ext.data.formats.image_places import ImagePlaces
from maskformer_ext.data.layouts.words import count_classes, count_images
from maskformer_ext.data.split_names import TEST, TRAIN, VAL
from maskformer_ext.errors import UserError, printable

_SPLITS = {"train": TRAIN, "val": VAL, "test": TEST}
_IMAGE_FOLDERS = ("images", "data", "JPEGImages")
_ANNOTATION_FOLDERS = ("annotations", "labels")
_MOST_FILES = 24  # JSON files of a folder that are looked at; a folder of one file per image has more
_ROBOFLOW, _FIFTYONE = "_annotations.coco.json", "labels.json"
_LABEL_STUDIO = ("result.json", "result_coco.json")
_SAYS_COCO = re.compile(r"(_annotations\.coco|instances_.*|result_coco)\.json", re.IGNORECASE)


@dataclass(frozen=True)
class CocoFiles:
    """The annotation files of a data set.

    Attributes:
        train: of the training images.
        val: of the validation images; None: ``data.val_share`` of those in ``train`` validate.
        said: which layout it is, in words; empty where the configuration names the files.
    """

    train: Path
    val: Path | None
    said: str = ""

    def of(self, split: str) -> Path:
        """Return the file that has the images of a split."""
        return self.val if split == "val" and self.val is not None else self.train

    def partner(self, split: str) -> Path | None:
        """Return the file of the other split; None where one file serves both."""
        return None if self.val is None else self.train if split == "val" else self.val


def locate(config: DataConfig) -> Path | None:
    """Return what paths are relative to where the configuration names annotation files, but no ``data.root``."""
    return Path() if config.train_json and not config.root else None


def coco_files(config: DataConfig, root: Path) -> CocoFiles:
    """Return the annotation files that the configuration names, or that lie in the root as tools export them.

    Raises:
        UserError: if there are none, several fit, or one is missing.
    """
    if not config.train_json:
        if config.val_json:
            raise UserError("data.val_json is given without data.train_json: give the training annotations, too.")
        if (found := find_files(root)) is None:
            raise UserError(
                f"{root} holds no annotations in COCO's JSON: set data.train_json and data.val_json to the files, or "
                "lay them out as docs/data.md shows."
            )
        return found
    train = root / Path(config.train_json).expanduser()
    val = root / Path(config.val_json).expanduser() if config.val_json else None
    for key, path in (("train_json", train), ("val_json", val)):
        if path is not None and not os.path.isfile(path):
            problem = "is a folder" if path.is_dir() else "is missing"
            raise UserError(f"{path} {problem}: set data.{key} to an annotation file in COCO's JSON.")
    return CocoFiles(train, None if val is None or val.resolve() == train.resolve() else val)


def recognise_coco(root: Path) -> Recognition | None:
    """Return what a folder with COCO's JSON holds, None where it has none."""
    found = find_files(root)
    return None if found is None else replace(recognition_of(found, root), inside=_inside(found, root))


def recognise_given(config: DataConfig) -> Recognition | None:
    """Return what the annotation files hold that a configuration names; None where it names none."""
    if not config.train_json:
        return None
    root = Path(config.root).expanduser() if config.root else Path()
    return recognition_of(coco_files(config, root), root)


def recognition_of(files: CocoFiles, root: Path) -> Recognition:
    """Return what annotation files hold, in numbers.

    Raises:
        UserError: if one is damaged or no COCO file of objects or segments.
    """
    train = _checked(files.train)
    val = None if files.val is None else _checked(files.val)
    kinds = {found.kind for found in (train, val) if found is not None}
    if len(kinds) > 1:
        raise UserError(
            f"{files.train} and {files.val} are of two kinds, one of outlines and one of panoptic PNGs: set "
            "data.train_json and data.val_json to files of one kind."
        )
    paths = [path for path in (files.train, files.val) if path is not None]
    names = class_names(paths, [found.categories or [] for found in (train, val) if found is not None])
    layout = files.said or f"COCO JSON ({_below(files.train, root)})"
    counts = count_images(train.images, None if val is None else val.images, "images")
    said = f"{layout}, {counts}, {count_classes(len(names))}"
    return Recognition("coco", "panoptic" if train.kind == PANOPTIC else "instance", said)


def find_files(root: Path) -> CocoFiles | None:
    """Find the annotation files of a folder, without reading them in full; None where there is none.

    Raises:
        UserError: if several files fit a split.
    """
    candidates = [path for path in _json_files(root) if _is_annotation(path)]
    if not candidates:
        return None
    splits: dict[str, list[Path]] = {}
    for path in candidates:
        splits.setdefault(split_of(path, root), []).append(path)
    if splits.get("train"):
        train = _only(splits["train"], root, "training")
        chosen = "val" if "val" in splits else "test"
        val = _only(splits[chosen], root, "validation") if chosen in splits else None
        return CocoFiles(train, val, _said(train, root, "test" if val is not None and chosen == "test" else ""))
    if len(candidates) > 1 and set(splits) - {""}:
        named = ", ".join(_below(path, root) for path in candidates[:4])
        raise UserError(
            f"{root} holds annotations in COCO's JSON ({named}), but none is called train: set data.train_json and "
            "data.val_json."
        )
    train = _only(candidates, root, "training")
    return CocoFiles(train, None, _said(train, root, ""))


def split_of(path: Path, root: Path) -> str:
    """Return "train", "val" or "test" as the name of an annotation file or of its folders says, or ""."""
    for name in (path.stem, *(folder.name for folder in path.parents if root in folder.parents)):
        words = set(re.split(r"[^a-z]+", name.lower()))
        found = [split for split, names in _SPLITS.items() if words & set(names)]
        if found:
            return found[0]
    return ""


def image_folders(config: DataConfig, root: Path, annotations: Path, split: str) -> tuple[list[Path], list[Path]]:
    """Return the folders in which images of an annotation file may lie, and those below which they lie somewhere.

    Raises:
        UserError: if the configuration names a folder that is missing.
    """
    given = {"train": config.train_images, "val": config.val_images}
    for key, place in given.items():
        if place and not (root / Path(place).expanduser()).is_dir():
            raise UserError(
                f"the folder {root / Path(place).expanduser()} is missing: set data.{key}_images to the folder of the "
                "images."
            )
    if given[split]:
        folder = root / Path(given[split]).expanduser()
        return [folder], [folder]
    both = [root / Path(given["train"]).expanduser()] if given["train"] else []  # one folder may serve both splits
    beside = annotations.parent
    above = [beside.parent] if beside.name.lower() in _ANNOTATION_FOLDERS else []
    bases = list(dict.fromkeys([beside, *above, *([root] if config.root else [])]))
    called = _split_names(annotations, root)
    own = [beside] if beside not in (root, *above) and beside.name.lower() not in _ANNOTATION_FOLDERS else []
    special = [base / part / name for base in bases for part in (*_IMAGE_FOLDERS, "") for name in called]
    general = [base / part for base in bases for part in ("", *_IMAGE_FOLDERS)]
    return [*own, *special, *general, *both], [root] if config.root else [*above, beside][:1]


def panoptic_images(config: DataConfig, root: Path, annotations: Path, split: str) -> Path:
    """Return the one folder in which the images of a panoptic file lie.

    Raises:
        UserError: if its first image is in none of the usual ones.
    """
    places = ImagePlaces(*image_folders(config, root, annotations, split))
    name = first_image(annotations)
    place = None if name is None else places.find(name)
    if name is None or place is None or not str(place[0]).endswith(name):
        raise UserError(
            f"{annotations}: its image {printable(name)} is not in {places.where()}: set data.{split}_images to the "
            "folder of the images."
        )
    return Path(str(place[0])[: -len(name)])


def panoptic_pngs(config: DataConfig, root: Path, annotations: Path, split: str) -> Path:
    """Return the folder of PNGs of a panoptic file: as the configuration says, or of the file's name without ending."""
    given = config.train_labels if split == "train" else config.val_labels
    return root / Path(given).expanduser() if given else annotations.with_suffix("")


def _split_names(annotations: Path, root: Path) -> list[str]:
    """Return what the folder of a file's images may be called: "train2017", "train" for instances_train2017.json."""
    stem = annotations.stem
    tail = stem.split("_", 1)[-1]
    split = split_of(annotations, root)
    names = [stem, tail, re.split(r"[^A-Za-z]+", tail)[0], *_SPLITS.get(split, ())]
    return [name for name in dict.fromkeys([*names, *(name.capitalize() for name in names)]) if name]


def _json_files(root: Path) -> Iterator[Path]:
    """Yield the JSON files of a folder and of those in it, two levels deep; folders of one file per image are short."""
    folders = [root]
    for depth in range(3):
        inside: list[Path] = []
        for folder in folders:
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:
                continue
            below = [Path(e.path) for e in entries if e.is_dir() and not e.name.startswith(".")]
            inside += sorted(below, key=lambda path: not _is_usual(path.name))[:_MOST_FILES]
            files = [Path(e.path) for e in entries if e.name.lower().endswith(".json") and not e.name.startswith(".")]
            likely = [path for path in files if _SAYS_COCO.fullmatch(path.name)]
            if len(files) <= _MOST_FILES or likely:
                yield from likely or sorted(files)
            else:
                yield from (
                    path for path in files if path.name in (_FIFTYONE, *_LABEL_STUDIO) or _is_named_as_a_split(path)
                )
        folders = [] if depth == 2 else inside


def _is_usual(name: str) -> bool:
    """Return whether a folder is called as those with annotation files are."""
    return name.lower() in _ANNOTATION_FOLDERS or any(name.lower() in names for names in _SPLITS.values())


def _is_named_as_a_split(path: Path) -> bool:
    """Return whether a file is called as a split is."""
    return any(path.stem.lower() in names for names in _SPLITS.values())


def _is_annotation(path: Path) -> bool:
    """Return whether a file is one of COCO's instances or panoptic ones; by its name alone where it is damaged."""
    return path.is_file() and (_SAYS_COCO.fullmatch(path.name) is not None or holds_masks(path))


def _only(paths: list[Path], root: Path, what: str) -> Path:
    """Return the one file of a split; objects come before segments and key points."""
    likely = [path for path in paths if _SAYS_COCO.fullmatch(path.name)] or paths
    if len(likely) > 1:
        named = ", ".join(_below(path, root) for path in likely[:4])
        raise UserError(
            f"{root} holds {len(likely)} annotation files for {what} ({named}): set data.train_json and data.val_json."
        )
    return likely[0]


def _inside(files: CocoFiles, root: Path) -> str:
    """Return the folder in which all annotation files lie, where it is not called as one of annotations or images."""
    tops = {path.relative_to(root).parts[0] for path in (files.train, files.val) if path is not None}
    top = tops.pop()
    usual = _is_usual(top) or top.lower() in (name.lower() for name in _IMAGE_FOLDERS)
    return "" if tops or usual or not (root / top).is_dir() else top


def _checked(path: Path) -> Glance:
    if not looks_like_coco(path):
        from maskformer_ext.data.formats.coco_json import read_own_annotations

        read_own_annotations(path)  # which says what it is instead
    found = glance(path)
    if found.kind not in (INSTANCES, PANOPTIC):
        raise UserError(
            f"{path} holds no objects: its annotations have no category and no mask, so that there is nothing to learn "
            "from; set data.train_json and data.val_json to other files."
        )
    return found


def _said(train: Path, root: Path, note: str) -> str:
    name, below = train.name.lower(), _below(train, root)
    writer = "COCO JSON"
    if name == _ROBOFLOW:
        writer = "COCO JSON as Roboflow exports it"
    elif name in _LABEL_STUDIO:
        writer = "COCO JSON as Label Studio exports it"
    elif name == _FIFTYONE and (train.parent / "data").is_dir():
        writer = "COCO JSON as FiftyOne exports it"
    elif re.fullmatch(r"instances_(default|Train|Validation|Test)\.json", train.name):
        writer = "COCO JSON as CVAT exports it"
    elif re.fullmatch(r"(instances|panoptic)_train\d*\.json", name):
        writer = "COCO JSON as COCO has it"
    return f"{writer} ({below}{'; the test images validate' if note else ''})"


def _below(path: Path, root: Path) -> str:
    shown = path.relative_to(root) if root in path.parents else path
    return printable(shown.as_posix())
