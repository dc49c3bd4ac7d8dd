"""Write results in the format in which a benchmark takes submissions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskformer_ext.data.sources import SOURCES
from maskformer_ext.data.tables import load_categories
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.decoding import EXTENSIONS
from maskformer_ext.errors import UserError
from maskformer_ext.files import make_folder, write_json
from maskformer_ext.images import write_png

FORMATS = ("ade20k", "ade20k_panoptic", "cityscapes", "coco_panoptic", "coco_instance", "mapillary_vistas")

_COCO = load_categories("coco_panoptic")
COCO_CATEGORY_IDS = {80: tuple(_COCO.ids[thing] for thing in _COCO.table.things), 133: _COCO.ids}
"""COCO's category ids in the order of its classes, by how many classes there are: 80 things, or with 53 of stuff."""


class SemanticWriter:
    """Write class maps as PNGs of one byte a pixel: what ADE20K, Cityscapes and Mapillary Vistas take.

    Args:
        folder: where the PNGs go.
        values: (K,) what a pixel of each class holds, 0..255.
        strip: removed from the end of the images' names.
        suffix: added to them.
    """

    task = "semantic"

    def __init__(self, folder: Path, values: Sequence[int], *, strip: str = "", suffix: str = "") -> None:
        self.folder, self.strip, self.suffix = folder, strip, suffix
        self.values = np.asarray(values, dtype=np.uint8)

    def write(self, index: int, name: str, result: Any) -> None:
        """Write the ``SemanticResult`` of one image."""
        stem = f"{_stem(name).removesuffix(self.strip)}{self.suffix}"
        write_png(Image.fromarray(self.values[result.class_map.cpu().numpy()]), self.folder / f"{stem}.png")

    def state(self) -> list[dict[str, Any]]:
        """Return what other processes have to know: nothing, every image is a file of its own."""
        return []

    def merge(self, state: list[dict[str, Any]]) -> None:
        """Take over what another process has written."""

    def finish(self) -> Path:
        """Return what is to be handed in: the folder."""
        return self.folder


class CocoPanopticWriter:
    """Write COCO's panoptic results: PNGs whose colours are segment ids, and a JSON of the segments.

    Args:
        folder: gets ``panoptic_results.json`` and the folder ``panoptic_results``.
        category_ids: (K,) of the classes.
        image_id: makes the id of an image from its index and name; None: its name as a number, or its index from 1.
    """

    task = "panoptic"

    def __init__(
        self,
        folder: Path,
        category_ids: Sequence[int],
        image_id: Callable[[int, str], int | str] | None = None,
    ) -> None:
        self.folder, self.category_ids, self.image_id = folder, category_ids, image_id or _image_id
        self.entries: list[dict[str, Any]] = []

    def write(self, index: int, name: str, result: Any) -> None:
        """Write the ``PanopticResult`` of one image."""
        ids = result.segment_map.cpu().numpy()
        colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        file = f"{_stem(name)}.png"
        write_png(Image.fromarray(colors), self.folder / "panoptic_results" / file)
        segments = [
            {"id": int(segment["id"]), "category_id": self.category_ids[segment["category_id"]]}
            for segment in result.segments_info
        ]
        self.entries.append({"image_id": self.image_id(index, name), "file_name": file, "segments_info": segments})

    def state(self) -> list[dict[str, Any]]:
        """Return the entries of this process."""
        return self.entries

    def merge(self, state: list[dict[str, Any]]) -> None:
        """Add the entries of another process."""
        self.entries = self.entries + state

    def finish(self) -> Path:
        """Write the JSON, in the order of the images' ids, and return its path."""
        path = self.folder / "panoptic_results.json"
        write_json(path, {"annotations": sorted(self.entries, key=_id_of)})
        return path


class CocoInstanceWriter:
    """Write COCO's instance results: one JSON list of masks as compressed run lengths.

    Args:
        folder: gets ``instance_results.json``.
        category_ids: (K,) of the classes.
    """

    task = "instance"

    def __init__(self, folder: Path, category_ids: Sequence[int]) -> None:
        self.folder, self.category_ids = folder, category_ids
        self.entries: list[dict[str, Any]] = []

    def write(self, index: int, name: str, result: Any) -> None:
        """Note the ``Instances`` of one image."""
        found = zip(result.scores.tolist(), result.labels.tolist(), result.rle(), strict=True)
        image_id = _image_id(index, name)
        self.entries += [
            {
                "image_id": image_id,
                "category_id": self.category_ids[label],
                "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
                "score": score,
            }
            for score, label, rle in found
        ]

    def state(self) -> list[dict[str, Any]]:
        """Return the entries of this process."""
        return self.entries

    def merge(self, state: list[dict[str, Any]]) -> None:
        """Add the entries of another process."""
        self.entries = self.entries + state

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
        info: the classes; in COCO's formats those of COCO have its category ids, others count from 1.

    Raises:
        UserError: if the format does not exist, or cannot hold the classes, or the folder cannot be made.
    """
    count = info.num_classes
    if format not in FORMATS:
        raise UserError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    make_folder(folder)
    if format == "ade20k":
        if count > 255:
            raise UserError(f"format=ade20k holds at most 255 classes, got {count}")
        return SemanticWriter(folder, range(1, count + 1))
    if format in ("ade20k_panoptic", "cityscapes", "mapillary_vistas"):
        ids = load_categories(SOURCES[format].table).ids
        if count != len(ids):
            raise UserError(f"format={format} takes its {len(ids)} classes, got {count}")
        if format == "ade20k_panoptic":  # as `prepare` writes ade20k_panoptic_val.json
            return CocoPanopticWriter(folder, range(count), lambda _, name: _stem(name))
        if format == "mapillary_vistas":
            return SemanticWriter(folder, ids)
        return SemanticWriter(folder, ids, strip="_leftImg8bit", suffix="_pred_labelIds")
    category_ids = COCO_CATEGORY_IDS.get(count, tuple(range(1, count + 1)))
    return (CocoPanopticWriter if format == "coco_panoptic" else CocoInstanceWriter)(folder, category_ids)


def _stem(name: str) -> str:
    """Return an image's name without folder and ending; other dots are part of the name."""
    path = Path(name)
    return path.stem if path.suffix.lower() in EXTENSIONS else path.name


def _image_id(index: int, name: str) -> int:
    """Return COCO's id of an image, which is its name as a number; elsewhere its place in the data set, from 1."""
    stem = _stem(name)
    return int(stem) if stem.isdecimal() else index + 1


def _id_of(entry: dict[str, Any]) -> Any:
    return entry["image_id"]
