"""Write results in the format in which a benchmark takes submissions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from maskformer_ext.config.values import check_choice
from maskformer_ext.data.catalog import PUBLIC
from maskformer_ext.data.listing import check_below
from maskformer_ext.data.tables import load_categories
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import make_folder, write_json
from maskformer_ext.inference.results.formats import panoptic_picture
from maskformer_ext.media.decoding import EXTENSIONS
from maskformer_ext.media.images import write_png

FORMATS = ("ade20k", "ade20k_panoptic", "cityscapes", "coco_panoptic", "coco_instance", "mapillary_vistas")

_COCO = load_categories("coco_panoptic")
COCO_CATEGORY_IDS = {80: tuple(_COCO.ids[thing] for thing in _COCO.table.things), 133: _COCO.ids}
"""COCO's category ids in the order of its classes, by how many classes there are: 80 things, or with 53 of stuff."""


class _Claims:
    """Which result took a file or an id; a second one is an error that names both."""

    def __init__(self) -> None:
        self.taken: dict[int | str, tuple[int, str]] = {}

    def take(self, target: int | str, what: str, index: int, name: str) -> None:
        """Note that the result of an image takes a target, called ``what`` in the error."""
        owner = self.taken.setdefault(target, (index, name))
        if owner != (index, name):
            raise UserError(
                f"the results of {printable(owner[1])!r} (image {owner[0]}) and {printable(name)!r} (image {index}) "
                f"would both have the {what} {printable(target)}: give the images other names or ids."
            )

    def merge(self, taken: dict[int | str, tuple[int, str]], what: str) -> None:
        """Add what another process has noted."""
        for target, (index, name) in taken.items():
            self.take(target, what, index, name)


class SemanticWriter:
    """Write class maps as PNGs of one byte per pixel: what ADE20K, Cityscapes and Mapillary Vistas take.

    Args:
        folder: where the PNGs go.
        values: (K,) what a pixel of each class holds, 0..255.
        strip: removed from the end of the images' names.
        suffix: added to them.
        flat: leave out the folders of the names, as the benchmark wants it.
    """

    task = "semantic"

    def __init__(
        self, folder: Path, values: Sequence[int], *, strip: str = "", suffix: str = "", flat: bool = False
    ) -> None:
        self.folder, self.strip, self.suffix, self.flat = folder, strip, suffix, flat
        self.values = np.asarray(values, dtype=np.uint8)
        self._files = _Claims()

    def write(self, index: int, name: str, result: Any) -> None:
        """Write the ``SemanticResult`` of one image; raises a ``UserError`` if another one has the same file."""
        path = _file_stem(name)
        stem = path.name if self.flat else str(path)
        file = f"{stem.removesuffix(self.strip)}{self.suffix}.png"
        self._files.take(file, "file", index, name)
        write_png(Image.fromarray(self.values[result.class_map.cpu().numpy()]), self.folder / file)

    def state(self) -> dict[str, Any]:
        """Return what other processes have to know: which files were written."""
        return {"files": self._files.taken}

    def merge(self, state: dict[str, Any]) -> None:
        """Take over what another process has written."""
        self._files.merge(state["files"], "file")

    def finish(self) -> Path:
        """Return what is to be handed in: the folder."""
        return self.folder


class _CocoWriter:
    """What COCO's writers share: entries with ids of the annotation file.

    Args:
        folder: gets the files.
        category_ids: (K,) of the classes.
        image_ids: by the images' names, as the annotation file has them; None: see ``image_id``.
        image_id: makes the id of an image from its index and name, where there is no annotation file. None: its name
            as a number, or its index from 1.
    """

    def __init__(
        self,
        folder: Path,
        category_ids: Sequence[int | str],
        image_ids: Mapping[str, int | str] | None = None,
        image_id: Callable[[int, str], int | str] | None = None,
    ) -> None:
        self.folder, self.category_ids = folder, category_ids
        self._known, self._make = image_ids, image_id or _image_id
        self.entries: list[dict[str, Any]] = []
        self._ids = _Claims()

    def _take_id(self, index: int, name: str) -> int | str:
        """Return the id of an image, which no other may have."""
        if self._known is not None and name not in self._known:
            raise UserError(f"the image {printable(name)!r} is not in the annotation file, so that it has no id")
        image_id = self._make(index, name) if self._known is None else self._known[name]
        self._ids.take(image_id, "image id", index, name)
        return image_id

    def state(self) -> dict[str, Any]:
        """Return the entries of this process, and which image has which id."""
        return {"entries": self.entries, "ids": self._ids.taken}

    def merge(self, state: dict[str, Any]) -> None:
        """Add the entries of another process."""
        self._ids.merge(state["ids"], "image id")
        self.entries = self.entries + state["entries"]


class CocoPanopticWriter(_CocoWriter):
    """Write COCO's panoptic results: PNGs whose colours are segment ids, and a JSON of the segments.

    The folder gets ``panoptic_results.json`` and the folder ``panoptic_results``. Arguments as `_CocoWriter`.
    """

    task = "panoptic"

    def write(self, index: int, name: str, result: Any) -> None:
        """Write the ``PanopticResult`` of one image; raises a ``UserError`` if another one has the same file or id."""
        image_id, file = self._take_id(index, name), f"{_file_stem(name)}.png"
        self._files.take(file, "file", index, name)
        write_png(panoptic_picture(result.segment_map.cpu().numpy()), self.folder / "panoptic_results" / file)
        segments = [
            {"id": int(segment["id"]), "category_id": self.category_ids[segment["category_id"]]}
            for segment in result.segments_info
        ]
        self.entries.append({"image_id": image_id, "file_name": file, "segments_info": segments})

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._files = _Claims()

    def state(self) -> dict[str, Any]:
        """Return the entries of this process, and which image has which id and file."""
        return {**super().state(), "files": self._files.taken}

    def merge(self, state: dict[str, Any]) -> None:
        """Add the entries of another process."""
        super().merge(state)
        self._files.merge(state["files"], "file")

    def finish(self) -> Path:
        """Write the JSON, in the order of the images' ids, and return its path."""
        path = self.folder / "panoptic_results.json"
        write_json(path, {"annotations": sorted(self.entries, key=_id_of)})
        return path


class CocoInstanceWriter(_CocoWriter):
    """Write COCO's instance results: one JSON list of masks as compressed run lengths.

    The folder gets ``instance_results.json``. Arguments as `_CocoWriter`.
    """

    task = "instance"

    def write(self, index: int, name: str, result: Any) -> None:
        """Note the ``Instances`` of one image; raises a ``UserError`` if another one has the same id."""
        found = zip(result.scores.tolist(), result.labels.tolist(), result.rle(), strict=True)
        image_id = self._take_id(index, name)
        self.entries += [
            {
                "image_id": image_id,
                "category_id": self.category_ids[label],
                "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
                "score": score,
            }
            for score, label, rle in found
        ]

    def finish(self) -> Path:
        """Write the JSON, in the order of the images' ids, and return its path."""
        path = self.folder / "instance_results.json"
        write_json(path, sorted(self.entries, key=_id_of))
        return path


SubmissionWriter = SemanticWriter | CocoPanopticWriter | CocoInstanceWriter


def create_writer(format: str, folder: Path, info: DatasetInfo) -> SubmissionWriter:
    """Create the writer of a benchmark's format.

    Args:
        format: one of ``FORMATS``.
        folder: where the files go; it is made.
        info: the classes of the data set. In COCO's formats, ids of images and categories are those of its annotation
            file. Where it has none, COCO's 80 or 133 classes have their usual category ids and others count from 1.

    Raises:
        UserError: if the format does not exist, or cannot hold the classes, or the folder cannot be made.
    """
    count = info.num_classes
    check_choice("format", format, tuple(FORMATS))
    make_folder(folder)
    if format == "ade20k":
        if count > 255:
            raise UserError(f"format=ade20k holds at most 255 classes, got {count}")
        return SemanticWriter(folder, range(1, count + 1))
    if format in ("ade20k_panoptic", "cityscapes", "mapillary_vistas"):
        ids = load_categories(PUBLIC[format].table).ids
        if count != len(ids):
            raise UserError(f"format={format} takes its {len(ids)} classes, got {count}")
        if format == "ade20k_panoptic":  # as `prepare` writes ade20k_panoptic_val.json
            known = info.file_ids
            if known is not None:
                return CocoPanopticWriter(folder, known.categories, known.images)
            return CocoPanopticWriter(folder, range(count), image_id=lambda _, name: str(_file_stem(name)))
        if format == "mapillary_vistas":
            return SemanticWriter(folder, ids, flat=True)
        return SemanticWriter(folder, ids, strip="_leftImg8bit", suffix="_pred_labelIds", flat=True)
    writer = CocoPanopticWriter if format == "coco_panoptic" else CocoInstanceWriter
    if info.file_ids is not None:
        return writer(folder, info.file_ids.categories, info.file_ids.images)
    return writer(folder, COCO_CATEGORY_IDS.get(count, tuple(range(1, count + 1))))


def _file_stem(name: str) -> PurePosixPath:
    """Return the path that an image's name gives its results: its folders stay, as do dots that begin no ending.

    Raises:
        UserError: if it leads out of the folder of the results.
    """
    check_below(name, "the folder of the results")
    path = PurePosixPath(name)
    return path.with_suffix("") if path.suffix.lower() in EXTENSIONS else path


def _image_id(index: int, name: str) -> int:
    """Return COCO's id of an image, which is its name as a number; elsewhere its place in the data set, from 1."""
    stem = _file_stem(name).name
    return int(stem) if stem.isascii() and stem.isdecimal() else index + 1


def _id_of(entry: dict[str, Any]) -> tuple[bool, Any]:
    """Return a key to sort by; a file may hold numbers and texts."""
    return isinstance(entry["image_id"], str), entry["image_id"]
