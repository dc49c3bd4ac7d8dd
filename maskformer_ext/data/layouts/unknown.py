"""What to say of a folder that no format fits: what it holds, whose export it looks like, and which folders to name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from maskformer_ext.data.description import Recognise, Recognition
from maskformer_ext.data.layouts.folders import IMAGES, LABELS
from maskformer_ext.data.split_names import TRAIN, VALIDATING
from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.media.extensions import EXTENSIONS

_MOST_FILES = 2000  # that are counted, or looked at
_MOST_FOLDERS = 24
_NAMED = 5
_LOOKED = 3  # files of each ending whose start is read
_START = 1 << 16  # bytes of a file that tell who wrote it
_PARTS = {*IMAGES, *LABELS, *TRAIN, *VALIDATING, "data", "imagesets", "segmentationobject"}
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
_EXPORTS = (
    (".json", rb'"predicted_iou"', "are masks of Segment Anything, which have no classes: label them as COCO JSON"),
    (
        ".json",
        rb'^\s*\[\s*\{(?s:.*)"(annotations|result|completions|brushlabels|polygonlabels)"',
        "is Label Studio's own JSON: export the project as COCO or YOLO with images",
    ),
    (
        ".json",
        rb'"classTitle"|"title"(?s:.*)"shape"',
        "is Supervisely's JSON: export it as COCO or Pascal VOC",
    ),
    (".json", rb'"_via_|"shape_attributes"', "is VIA's own JSON: export the project as COCO"),
    (".json", rb'"(label_categories|media_type)"|"dm_format_version"', "is Datumaro's JSON: export it as COCO"),
    (".xml", rb"<annotations>(?s:.*)<image ", "is CVAT's own XML: export the task as COCO 1.0"),
    (".xml", rb"<annotation", "holds boxes, which are no masks: export the data for segmentation, as COCO JSON"),
    (".json", rb"^(\xff\xfe|\xfe\xff)", "is UTF-16 text: save it as UTF-8"),
    (".json", rb"", "is of no known kind: COCO's JSON is an object with images, annotations and categories"),
    (".csv", rb"(?i)MaskPath", "lists one mask for each object, as Open Images does: convert them to COCO JSON"),
    (".csv", rb"(?i)rle|EncodedPixels|segmentation", "holds masks as text: write them as PNG files, or as COCO JSON"),
    (".csv", rb"", "is a table: it is not read; give masks as PNG files, or outlines as COCO JSON or YOLO"),
    (".npy .npz", rb"", "is an array of NumPy: save images and masks as PNG files"),
    (" ".join(_ARCHIVES), rb"", "is an archive: unpack it first"),
    (".data .names", rb"", "is of darknet's YOLO: export polygons as YOLO for segmentation, with a data.yaml"),
    (
        ".jsonl",
        rb"",
        "is a list of Hugging Face's image folders: load it by datasets, and give what save_to_disk writes",
    ),
    (".tfrecord .record", rb"", "is a TFRecord file: export the data as COCO JSON"),
)
"""Endings, what the start of a file holds, and the sentence about it; the first that fits counts."""


def look_at(root: Path, look: Recognise) -> Recognition | None:
    """Return what a format recognises in a folder; None where it is another one.

    Raises:
        UserError: if it is this format, but cannot be read, or a folder may not be opened.
    """
    try:
        return look(root)
    except OSError as error:
        raise UserError(f"{printable(error.filename or root)} cannot be read: {why(error)}.") from None


def refuse_file(path: Path) -> UserError:
    """Return the error for what is no folder: a file, an archive, or nothing."""
    if not path.exists():
        return UserError(f"the folder {path} is missing: set data.root to the folder of your images and labels.")
    if path.suffix.lower() in _ARCHIVES:
        return UserError(f"{path} is an archive: unpack it, and give the folder.")
    return UserError(f"{path} is a file: give the folder of your images and labels, perhaps {path.parent}.")


def refuse(root: Path, name: str | None, formats: Mapping[str, Recognise]) -> UserError:
    """Return the error for a folder that none of the formats fits.

    Args:
        root: the folder.
        name: ``data.name``, where the user gave one.
        formats: what was tried, by the values of ``data.name``.
    """
    if (closed := _closed(root)) is not None:
        return UserError(f"the folder {closed} cannot be read: it belongs to somebody else.")
    if below := data_sets_below(root, formats):
        return UserError(f"{root} is no data set itself, but {_choice(root, below)}")
    kind = "any format that is known" if name is None else f"data.name={name}"
    return UserError(
        f"{root} is not laid out as {kind}: it holds {_contents(root)}. {_export(root)}docs/data.md shows the layouts "
        f"of {', '.join(formats)}."
    )


def refuse_several(root: Path, inside: str, formats: Mapping[str, Recognise]) -> UserError | None:
    """Return the error for a folder above several data sets; None where one folder alone is a data set.

    Args:
        root: the folder.
        inside: the folder below it in which files were found.
        formats: which data sets count, by the values of ``data.name``.
    """
    below = data_sets_below(root, formats)
    return UserError(f"{root} {_choice(root, below)}") if set(below) - {inside} else None


def data_sets_below(root: Path, formats: Mapping[str, Recognise]) -> dict[str, Recognition]:
    """Return the folders in a folder that are data sets themselves; its parts, such as "train", are none."""
    folders = sorted(entry.name for entry in os.scandir(root) if not entry.name.startswith(".") and entry.is_dir())
    found = {}
    for folder in [name for name in folders if name.lower() not in _PARTS][:_MOST_FOLDERS]:
        for look in formats.values():
            try:
                recognition = look_at(root / folder, look)
            except UserError:
                continue  # a folder that nobody asked for
            if recognition is not None:
                found[folder] = recognition
                break
    return found


def _closed(root: Path) -> Path | None:
    """Return a folder that may not be opened, at the root or directly below; None where there is none."""
    below = os.scandir(root) if os.access(root, os.R_OK | os.X_OK) else ()
    for folder in (root, *sorted(Path(entry) for entry in below if entry.is_dir())):
        if not os.access(folder, os.R_OK | os.X_OK):
            return folder
    return None


def _choice(root: Path, below: Mapping[str, Recognition]) -> str:
    listed = ", ".join(f"{printable(folder)} ({found.name})" for folder, found in list(below.items())[:_NAMED])
    more = f" and {len(below) - _NAMED} more" if len(below) > _NAMED else ""
    one = len(below) == 1
    kind = "one" if one else f"{len(below)} data sets"
    return f"holds {kind}: {listed}{more}. Give {'that folder' if one else 'one'}, as {root / next(iter(below))}."


def _contents(root: Path) -> str:
    """Return in words what a folder holds: its entries, and which endings its files have."""
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir() if not entry.name.startswith("."))
    if not entries:
        return "nothing"
    endings = Counter(path.suffix.lower() or "no ending" for path in _files(root))
    kinds = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(_NAMED))
    more = f" and {len(entries) - _NAMED} more" if len(entries) > _NAMED else ""
    return printable(f"{', '.join(entries[:_NAMED])}{more} (files: {kinds or 'none'})")


def _export(root: Path) -> str:
    """Return a sentence about a file that another program can export otherwise; "" where there is none."""
    files = list(_files(root))
    endings = {ending for endings, *_ in _EXPORTS for ending in endings.split()}
    looked: Counter[str] = Counter()
    starts = []
    for path in files:
        ending = path.suffix.lower()
        if ending in endings and looked[ending] < _LOOKED:
            looked[ending] += 1
            starts.append((path, ending, _start(path)))
    for among, pattern, says in _EXPORTS:
        for path, ending, start in starts:
            if ending in among.split() and re.search(pattern, start):
                return f"{printable(path)} {says}. "
    if files and all(path.suffix.lower() in EXTENSIONS for path in files):
        return "If all of these are photos, nothing labels them: add their masks or outlines. "
    return ""


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_START)
    except OSError:
        return b""


def _files(root: Path) -> Iterator[Path]:
    waiting, seen = [root], 0
    while waiting and seen < _MOST_FILES:
        try:
            entries = sorted(waiting.pop(0).iterdir())
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir() and not entry.is_symlink():
                waiting.append(entry)
            elif entry.is_file():
                seen += 1
                yield entry
