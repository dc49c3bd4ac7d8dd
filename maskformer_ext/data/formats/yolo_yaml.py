"""The ``data.yaml`` of a YOLO data set: the names of the classes, and where the images of each split lie."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from maskformer_ext.data.classes import unique_names
from maskformer_ext.data.split_names import TRAIN, VALIDATING
from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import read_text

_log = logging.getLogger(__name__)
_USUAL = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_ROBOFLOW = "../valid/images"  # which its exports name, whether they have validation images or not
_LARGEST = 1 << 20  # characters; a file of names is far smaller
_SPLITS = {"train": TRAIN, "val": VALIDATING}
_SPLIT_WORDS = {"train", "training", "val", "valid", "validation", "test", "testing"}


@dataclass(frozen=True)
class YoloYaml:
    """What a ``data.yaml`` says.

    Attributes:
        path: the file.
        names: of the classes.
        sources: for "train" and "val" the folders and list files of the images; empty where the file names none.
    """

    path: Path
    names: tuple[str, ...]
    sources: dict[str, tuple[Path, ...]]


def find_yaml(root: Path, given: str | None = None) -> Path | None:
    """Return the file below a folder that names the classes; None where there is none.

    Args:
        root: the folder.
        given: ``data.classes_file``.

    Raises:
        UserError: if several files could be meant.
    """
    if given and Path(given).suffix.lower() in (".yaml", ".yml"):
        return root / Path(given).expanduser()
    for name in _USUAL:
        if (root / name).is_file():
            return root / name
    found = [path for path in sorted(root.glob("*.y*ml")) if path.is_file() and _has_names(path)]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"{root} holds {len(found)} files with names of classes ({names}): set data.classes_file.")
    return found[0] if found else None


def read_yolo_yaml(path: Path, root: Path) -> YoloYaml:
    """Read a ``data.yaml`` as ultralytics and Roboflow write it.

    Args:
        path: the file.
        root: ``data.root``, which its paths may count from.

    Raises:
        UserError: if it is no YAML, names no class or a class twice, or names a path that is not there.
    """
    content = _load(path)
    if "names" not in content:
        raise UserError(f"{path} has no 'names': list the classes there, as in names: [cat, dog].")
    names = _names(content["names"], path)
    count = content.get("nc")
    if count not in (None, "") and str(count) != str(len(names)):
        raise UserError(
            f"{path}: 'nc' is {printable(count)!s:.20}, but 'names' holds {len(names)}: correct one of both."
        )
    base = content.get("path") or ""
    if not isinstance(base, str):
        raise UserError(f"{path}: 'path' must be the path of a folder, got {base!r:.40}.")
    sources: dict[str, tuple[Path, ...]] = {}
    for split, keys in _SPLITS.items():
        key = next((key for key in keys if content.get(key)), "")
        entries = content.get(key) or []
        entries = [entries] if isinstance(entries, str) else entries
        if not isinstance(entries, list) or not all(isinstance(entry, str) and entry for entry in entries):
            raise UserError(f"{path}: {key!r} must be a folder, a list file, or a list of such, got {entries!r:.40}.")
        spare = split == "val" and sources["train"] and entries == [_ROBOFLOW]
        if spare and _find(_ROBOFLOW, base, path, root) is None:
            _warn_of_no_split(str(path))
            entries = []
        sources[split] = tuple(_locate(entry, base, path, root, key) for entry in entries)
    return YoloYaml(path, names, sources)


def listed_images(path: Path, base: Path) -> list[Path]:
    """Return the images that a list file names, one per line.

    Args:
        path: the text file.
        base: the folder of the data set.

    Raises:
        UserError: if an image is not there; the sentence names file and line.
    """
    images = []
    for number, line in enumerate(read_text(path, "a list of images").splitlines(), start=1):
        name = line.strip().replace("\\", "/")
        if not name:
            continue
        found = next((file for file in _places(name, [path.parent, base]) if file.is_file()), None)
        if found is None:
            raise UserError(f"{path}, line {number}: the image {printable(name)} is missing: correct the list.")
        images.append(found)
    return images


def _load(path: Path) -> dict[str, Any]:
    """Return what a YAML file holds: texts, lists and objects of them, so that the class "no" is no boolean."""
    import yaml

    text = read_text(path, "a YOLO data.yaml")
    if len(text) > _LARGEST:
        raise UserError(f"{path} is not a YOLO data.yaml: it has {len(text)} characters.")
    try:
        content = yaml.load(text, Loader=yaml.BaseLoader)  # knows texts only, and builds no object of Python's
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        problem = printable(getattr(error, "problem", None) or type(error).__name__)
        tab = " Indent by spaces, not by tabs." if "\\t" in problem else ""
        raise UserError(f"{path}{line}: is not valid YAML ({problem}).{tab}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold 'key: value' pairs such as names: [cat, dog].")
    return content


def _has_names(path: Path) -> bool:
    try:
        return "names" in _load(path)
    except UserError:
        return False  # a file that nobody said is about classes


def _names(names: Any, path: Path) -> tuple[str, ...]:
    if isinstance(names, dict):
        ids = [str(number) for number in range(len(names))]
        if set(names) != set(ids):
            strange = next(key for key in names if key not in ids)
            raise UserError(
                f"{path}: the numbers of 'names' must be 0 to {len(names) - 1}, got {printable(strange)!r:.40}."
            )
        names = [names[number] for number in ids]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: 'names' must be a list of names, or names by number, got {names!r:.40}.")
    return unique_names(names, f"{path}: 'names'")


def _locate(entry: str, base: str, path: Path, root: Path, key: str) -> Path:
    """Return where an entry of the file lies.

    Raises:
        UserError: if it is nowhere.
    """
    if (place := _find(entry, base, path, root)) is not None:
        return place
    raise UserError(
        f"{path}: {key!r} names {printable(entry)}, which is not there: expected it below "
        f"{printable(_bases(base, path, root)[0])}. Correct the file, or put the images there."
    )


def _find(entry: str, base: str, path: Path, root: Path) -> Path | None:
    places = _places(entry.replace("\\", "/"), _bases(base, path, root))
    return next((place for place in places if place.exists()), None)


def _bases(base: str, path: Path, root: Path) -> list[Path]:
    """Return what paths count from: ``path`` in the file, the file's folder, or the root."""
    base = base.replace("\\", "/")
    given = [path.parent / Path(base).expanduser(), root / base] if base else []
    return [*given, path.parent, root]


@lru_cache(maxsize=64)
def _warn_of_no_split(path: str) -> None:
    """Log once for a file that it names Roboflow's folder of validation images, which an export may lack."""
    _log.warning("%s", printable(f"{path}: 'val' names {_ROBOFLOW}, which is not there: data.val_share draws a split"))


def _places(entry: str, bases: Sequence[Path]) -> Iterator[Path]:
    """Yield where a path may lie: as written, and without its first parts, as Roboflow and CVAT need.

    The last part that names a split stays, so that both splits are never found in one folder that holds neither.
    """
    for base in bases:
        yield base / entry
    parts = PurePosixPath(entry).parts
    splits = [place for place, part in enumerate(parts) if part.lower() in _SPLIT_WORDS]
    for first in range(1, 1 + splits[-1] if splits else len(parts)):
        if parts[first] == "..":
            continue
        for base in bases:
            yield base / PurePosixPath(*parts[first:])
