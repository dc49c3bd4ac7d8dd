"""Where images and labels lie in a folder that somebody else laid out: which folders, and how their names differ."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskformer_ext.data.split_names import TRAIN, VALIDATING
from maskformer_ext.errors import UserError
from maskformer_ext.media.extensions import EXTENSIONS

IMAGES = ("images", "image", "imgs", "img", "jpegimages", "photos", "input", "inputs", "x")
"""Names of folders of images, in small letters, the most usual first."""

LABELS = (
    *("labels", "label", "masks", "mask", "annotations", "annotation", "anns", "ann", "gt", "ground_truth"),
    *("groundtruth", "segmentationclass", "segmentations", "segmentation", "instances", "targets", "target", "y"),
)
"""Names of folders of label images, likewise."""

_ENDINGS = ("_mask", "-mask", "_masks", "_label", "_labels", "_seg", "_segmentation", "_gt", "_annotation", "_l")
_IMAGE_ENDINGS = ("", "_image", "_img", "_sat", "_rgb")
_MOST = 2000  # entries that are looked at in search of a kind of file
_ENOUGH = 0.5  # of the label images must have an image, so that a folder counts as laid out so


@dataclass(frozen=True)
class Layout:
    """Where the images and labels of both splits lie, below the root.

    A path may end with ``*`` and how the names of the files end: ``masks/*_mask.png``. Both splits lie in the same
    folders where the data has no split.

    Attributes:
        train: images and labels of the training split.
        val: those of the validation split.
    """

    train: tuple[str, str]
    val: tuple[str, str]

    @property
    def keys(self) -> dict[str, str]:
        """The keys below ``data`` that say so; none where the folders are those that docs/data.md shows."""
        keys = dict(zip(("train_images", "train_labels"), self.train, strict=True))
        keys |= dict(zip(("val_images", "val_labels"), self.val, strict=True))
        usual = {f"{split}_{part}": f"{split}/{part}" for split in ("train", "val") for part in ("images", "labels")}
        return {} if keys == usual else keys


def find_layout(root: Path, extensions: Sequence[str]) -> Layout | None:
    """Return where images and labels lie below a folder; None where it is laid out in no way that is known.

    Args:
        root: the folder.
        extensions: endings of label files, in small letters.

    Raises:
        UserError: if several folders could hold the labels.
    """
    for find in (_split_first, _split_last, _split_in_name):
        found = {split: find(root, names, extensions) for split, names in (("train", TRAIN), ("val", VALIDATING))}
        if (train := found["train"]) is not None:
            return Layout(train, found["val"] or train)
    if (single := _parts(root, "", extensions) or _side_by_side(root, "", extensions)) is not None:
        return Layout(single, single)
    return None


def has_files(folder: Path, extensions: Sequence[str]) -> bool:
    """Return whether a file with one of the endings lies below a folder, by a look at some of its entries."""
    return next(some_files(folder, extensions), None) is not None


def some_files(folder: Path, extensions: Sequence[str]) -> Iterator[Path]:
    """Yield files with one of the endings below a folder, by a look at some of its entries."""
    waiting, seen = [folder], 0
    while waiting and seen < _MOST:
        try:
            entries = sorted(os.scandir(waiting.pop(0)), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            seen += 1
            if seen > _MOST:
                return
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif Path(entry.name).suffix.lower() in extensions:
                yield Path(entry.path)


def _folders(folder: Path) -> dict[str, str]:
    """Return the folders in a folder, by their names in small letters."""
    try:
        return {entry.name.lower(): entry.name for entry in os.scandir(folder) if entry.is_dir()}
    except OSError:
        return {}


def _split_first(root: Path, names: Sequence[str], extensions: Sequence[str]) -> tuple[str, str] | None:
    """Return train/images and train/labels."""
    folders = _folders(root)
    for name in names:
        if name in folders:
            below = f"{folders[name]}/"
            found = _parts(root, below, extensions) or _side_by_side(root, below, extensions)
            if found is not None:
                return found
    return None


def _split_last(root: Path, names: Sequence[str], extensions: Sequence[str]) -> tuple[str, str] | None:
    """Return images/train and labels/train."""
    folders = _folders(root)
    images = [folders[name] for name in IMAGES if name in folders]
    labels = [folders[name] for name in LABELS if name in folders]
    for name in names:
        with_images = [f"{part}/{own[name]}" for part in images if name in (own := _folders(root / part))]
        with_labels = [f"{part}/{own[name]}" for part in labels if name in (own := _folders(root / part))]
        found = _choose(root, with_images, with_labels, extensions)
        if found is not None:
            return found
    return None


def _split_in_name(root: Path, names: Sequence[str], extensions: Sequence[str]) -> tuple[str, str] | None:
    """Return train_images and train_labels, or the parts of such a name in the other order."""
    folders = {name.replace("-", "_"): real for name, real in _folders(root).items()}
    for name in names:
        images, labels = (
            [folders[way] for part in parts for way in (f"{name}_{part}", f"{part}_{name}") if way in folders]
            for parts in (IMAGES, LABELS)
        )
        images = images or ([folders[name]] if name in folders and labels else [])  # train beside train_masks
        found = _choose(root, images, labels, extensions)
        if found is not None:
            return found
    return None


def _parts(root: Path, below: str, extensions: Sequence[str]) -> tuple[str, str] | None:
    """Return the folders of images and labels in a folder."""
    folders = _folders(root / below)
    images, labels = ([below + folders[name] for name in names if name in folders] for names in (IMAGES, LABELS))
    return _choose(root, images, labels, extensions)


def _choose(
    root: Path, images: Sequence[str], labels: Sequence[str], extensions: Sequence[str]
) -> tuple[str, str] | None:
    images = [folder for folder in images if has_files(root / folder, EXTENSIONS)]
    labels = [folder for folder in labels if has_files(root / folder, extensions)]
    if not images or not labels:
        return None
    if len(labels) > 1:
        raise UserError(
            f"{root} holds labels in {' and '.join(labels)}. Say which are meant: config=semantic_folder (or "
            f"instance_folder) data.train_images={images[0]} data.train_labels={labels[0]}, and the same for val."
        )
    return (images[0], labels[0] + _ending(root / images[0], root / labels[0], extensions))


def _ending(images: Path, labels: Path, extensions: Sequence[str]) -> str:
    """Return "/*_mask.png" where the names of label files are those of images and more; "" where they are the same."""
    names = {path.stem for path in some_files(images, EXTENSIONS)}
    found = list(some_files(labels, extensions))
    if not found or sum(path.stem in names for path in found) >= _ENOUGH * len(found):
        return ""
    longer = Counter(
        path.name[len(path.stem) - length :]
        for path in found
        for length in range(1, len(path.stem))
        if path.stem[:-length] in names
    )
    if not longer:
        return ""
    ending, count = longer.most_common(1)[0]
    return f"/*{ending}" if count >= _ENOUGH * len(found) else ""


def _side_by_side(root: Path, below: str, extensions: Sequence[str]) -> tuple[str, str] | None:
    """Return the patterns of images and label images that lie in one folder: a.jpg with a_mask.png or a.png."""
    files = [path for path in some_files(root / below, EXTENSIONS) if path.parent == root / below]
    names = {path.name for path in files}
    stems = Counter(path.stem.lower() for path in files)
    pairs: Counter[tuple[str, str]] = Counter()
    for path in files:
        if path.suffix.lower() not in extensions:
            continue
        for ending in _ENDINGS:
            if not path.stem.lower().endswith(ending):
                continue
            start = path.stem[: -len(ending)].lower()
            partner = next((part for part in _IMAGE_ENDINGS if start + part in stems), None)
            if partner is not None:
                pairs[partner, path.name[len(start) :]] += 1
                break
        else:
            image = next((end for end in (".jpg", ".jpeg", ".JPG") if path.stem + end in names), None)
            if image is not None:
                pairs[image, path.suffix] += 1
    if not pairs or max(pairs.values()) < _ENOUGH / 2 * len(files):
        return None
    (partner, ending), _ = pairs.most_common(1)[0]
    if partner and not partner.startswith("."):
        suffixes = Counter(path.suffix for path in files if path.stem.lower().endswith(partner))
        partner += suffixes.most_common(1)[0][0]
    return (f"{below}*{partner}" if partner else below or ".", f"{below}*{ending}")
