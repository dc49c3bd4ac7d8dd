"""Files that other tools expect, or that load faster, made from a data set as distributed.

A conversion writes each file under a temporary name and renames it. It skips the files that are there, so that one
that was interrupted goes on. Folders have the ending ``.partial`` until they are complete; no loader reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskformer_ext.data.description import partial
from maskformer_ext.data.readers.pairs import PairedImages
from maskformer_ext.data.types import Sample, SampleDataset
from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import write_json, writing

_JPEG_QUALITY = 95


def working_folder(path: Path) -> Path:
    """Return, and make, the folder to write to: the partial one, unless the complete one is there."""
    folder = path if path.is_dir() else partial(path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_image(pixels: np.ndarray, path: Path, **options: Any) -> None:
    """Write an image; it appears under its name when it is whole."""
    with writing(path) as temporary:
        Image.fromarray(pixels).save(temporary, **options)


class WriteLabels:
    """Write the label map of a sample: class ids, and the data set's void value.

    Args:
        dataset: what to read.
        folder: where the label images go, named as the images, with their folders.
        suffix: ".png" for 8 bit, ".tif" for 16.
        images: where the images go, as JPEG; None: nowhere.
    """

    def __init__(self, dataset: SampleDataset, folder: Path, suffix: str = ".png", images: Path | None = None) -> None:
        self.dataset, self.folder, self.suffix, self.images = dataset, folder, suffix, images

    def target(self, index: int) -> Path:
        """Return the file of a label map."""
        return self.folder / f"{self.name(index)}{self.suffix}"

    def name(self, index: int) -> str:
        """Return what the files of a sample are called below their folders."""
        return sample_name(self.dataset, index)

    def __call__(self, index: int) -> None:
        path = self.target(index)
        image = None if self.images is None else self.images / f"{self.name(index)}.jpg"
        if path.is_file() and (image is None or image.is_file()):
            return
        sample = self.dataset[index]
        if image is not None:
            save_image(sample.image.permute(1, 2, 0).numpy(), image, quality=_JPEG_QUALITY)
        dtype = np.uint8 if self.suffix == ".png" else np.uint16
        save_image(sample.label_map(self.dataset.info.ignore_label).numpy().astype(dtype), path)


class WriteFlat(WriteLabels):
    """Write all files side by side, as other tools expect those of the full ADE20K.

    Raises:
        UserError: if two samples differ in their folders only.
    """

    def __init__(self, dataset: SampleDataset, folder: Path, suffix: str = ".png", images: Path | None = None) -> None:
        super().__init__(dataset, folder, suffix, images)
        seen: dict[str, str] = {}
        for index in range(len(dataset)):
            whole = sample_name(dataset, index)
            if (other := seen.setdefault(self.name(index), whole)) != whole:
                raise UserError(
                    f"the samples {printable(other)} and {printable(whole)} would be converted to one file."
                )

    def name(self, index: int) -> str:
        """Return the last part of a sample's name."""
        return sample_name(self.dataset, index).rsplit("/", 1)[-1]


class WriteBeside(WriteLabels):
    """Write a label map beside the label image as distributed.

    Args:
        dataset: what to read.
        endings: of the label images that may be there.
        ending: what takes their place.
    """

    def __init__(self, dataset: PairedImages, endings: Sequence[str], ending: str) -> None:
        super().__init__(dataset, Path())
        self.pairs, self.endings, self.ending = dataset.pairs, endings, ending

    def target(self, index: int) -> Path:
        """Return the file of a label map."""
        label = self.pairs[index][2]
        there = next((ending for ending in self.endings if label.name.lower().endswith(ending.lower())), "")
        return label.with_name(label.name[: len(label.name) - len(there)] + self.ending)


class WritePanoptic:
    """Write a sample as COCO's panoptic PNG and return its records of the JSON file.

    Args:
        dataset: what to read.
        folder: where the PNGs go.
    """

    def __init__(self, dataset: SampleDataset, folder: Path) -> None:
        self.dataset, self.folder = dataset, folder

    def __call__(self, index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        sample = self.dataset[index]
        path = self.folder / f"{sample.name}.png"
        if not path.is_file():
            ids = sample.segment_map.numpy() + 1
            save_image(np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8), path)
        height, width = sample.size
        image = {"id": sample.name, "file_name": self._image(index, sample.name), "height": height, "width": width}
        return image, {
            "image_id": sample.name,
            "file_name": f"{sample.name}.png",
            "segments_info": segments_info(sample),
        }

    def _image(self, index: int, name: str) -> str:
        """Return the file of an image, below the folder of all."""
        if not isinstance(self.dataset, PairedImages):
            return f"{name}.jpg"
        return "/".join([*name.split("/")[:-1], self.dataset.pairs[index][1].name])


def segments_info(sample: Sample) -> list[dict[str, Any]]:
    """Return id, category, area in pixels and box (left, top, width, height) of each segment that has pixels."""
    infos = []
    for index, label in enumerate(sample.labels.tolist()):
        rows, columns = np.nonzero(sample.segment_map.numpy() == index)
        if len(rows):
            left, top = int(columns.min()), int(rows.min())
            box = [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]
            infos.append({"id": index + 1, "category_id": label, "area": len(rows), "bbox": box, "iscrowd": 0})
    return infos


def write_panoptic_json(dataset: SampleDataset, path: Path, records: list[Any]) -> None:
    """Write the JSON file of a split, given what `WritePanoptic` returned for each sample."""
    info = dataset.info
    categories = [
        {"id": index, "name": name, "isthing": int(index in info.thing_classes), "color": list(info.colors[index])}
        for index, name in enumerate(info.classes)
    ]
    images, annotations = ([record[part] for record in records] for part in (0, 1))
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(path, content)


def sample_name(dataset: Any, index: int) -> str:
    """Return the name of a sample without reading it."""
    return dataset.pairs[index][0] if isinstance(dataset, PairedImages) else dataset.records[index][-1]
