"""Where LabelMe's files lie, which splits they form and which classes they name, without torch."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from maskformer_ext.config import DataConfig
from maskformer_ext.data.classes import find_classes_file, read_classes_file, unique_names
from maskformer_ext.data.formats.labelme_json import BACKGROUND, IGNORE, read_labelme
from maskformer_ext.data.layouts.folders import some_files
from maskformer_ext.data.listing import composed, list_files
from maskformer_ext.data.split_names import TRAIN, VALIDATING
from maskformer_ext.errors import UserError
from maskformer_ext.files import state_of
from maskformer_ext.media.extensions import EXTENSIONS

JSON = (".json",)
_START = 1 << 16  # bytes in which a LabelMe file names its shapes
_SHAPES = re.compile(rb'"shapes"\s*:')
_LABELS_FILE = "labels.txt"


@dataclass(frozen=True)
class Scan:
    """What all LabelMe files of a folder hold.

    Attributes:
        labels: how many shapes have each label.
        without_area: how many shapes of each type have no area.
        beyond: shapes that reach over the border of their image.
        problems: the sentence about each file that cannot be read, by its path.
    """

    labels: Counter[str] = field(default_factory=Counter)
    without_area: Counter[str] = field(default_factory=Counter)
    beyond: list[str] = field(default_factory=list)
    problems: dict[Path, str] = field(default_factory=dict)


def is_labelme(path: Path) -> bool:
    """Return whether a JSON file is LabelMe's, by its first bytes."""
    try:
        with path.open("rb") as file:
            return _SHAPES.search(file.read(_START)) is not None
    except OSError:
        return False


def split_folders(root: Path) -> dict[str, Path] | None:
    """Return the folders of both splits; None where the data has no split."""
    folders = {entry.name.lower(): Path(entry.path) for entry in os.scandir(root) if entry.is_dir()}
    found = [next((folders[name] for name in names if name in folders), None) for names in (TRAIN, VALIDATING)]
    if found[0] is None or found[1] is None:
        return None
    if not all(any(map(is_labelme, some_files(folder, JSON))) for folder in found if folder is not None):
        return None
    return {"train": found[0], "val": found[1]}


def labelme_files(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the LabelMe files below a folder by their names, and the names of other JSON files."""
    found = list_files(folder, JSON, ending=".json").files
    files = {name: path for name, path in found.items() if is_labelme(path)}
    return files, [f"{name}.json" for name in found if name not in files]


def find_image(file: Path, image_path: str, root: Path) -> Path | None:
    """Return the image of a LabelMe file; None where it is not on the disk.

    Args:
        file: the JSON file.
        image_path: what it gives, with slashes.
        root: images lie below it.
    """
    name = composed(image_path.rpartition("/")[2])
    beside = Path(os.path.normpath(file.parent / image_path)) if image_path else file
    places = [beside] if beside.is_relative_to(root) else []
    places += [folder / name for folder in (file.parent, file.parent.parent / "images") if name]
    places += [file.with_suffix(ending) for ending in EXTENSIONS]
    return next((place for place in places if os.path.isfile(place) and place.suffix.lower() in EXTENSIONS), None)


def scan(files: Sequence[Path]) -> Scan:
    """Read LabelMe files once in a process, as long as none changes."""
    return _scan(tuple(map(state_of, files)))


@lru_cache(maxsize=4)
def _scan(states: tuple[tuple[Path, int, int], ...]) -> Scan:
    found = Scan()
    for path, _, _ in states:
        try:
            file = read_labelme(path, masks=False)
        except UserError as error:
            found.problems[path] = str(error)
            continue
        found.labels.update(shape.label for shape in file.shapes)
        found.without_area.update(file.without_area)
        found.beyond.extend(f"shape {number} of {path.name}" for number in file.beyond)
    return found


def class_names(root: Path, config: DataConfig, files: Sequence[Path]) -> tuple[tuple[str, ...], Path | None]:
    """Return the classes and the file that names them: a labels file, or the labels of all files, sorted.

    Args:
        root: the folder.
        config: ``classes_file``.
        files: all LabelMe files of both splits.

    Raises:
        UserError: if there is no label.
    """
    named = find_classes_file(config, root)
    if named is None and (root / _LABELS_FILE).is_file():
        named = root / _LABELS_FILE
    if named is not None:
        names: Sequence[str] = read_classes_file(named).classes
    else:
        found = scan(files)
        if not found.labels and found.problems:
            raise UserError(next(iter(found.problems.values())))
        names = sorted(found.labels, key=_natural)
    return unique_names([name for name in names if name not in (IGNORE, BACKGROUND)], str(named or root)), named


def _natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a key that sorts numbers in names by their value: cell 2 before cell 10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in parts if part], name
