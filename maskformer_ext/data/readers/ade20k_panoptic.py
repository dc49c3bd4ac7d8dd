"""ADE20K's semantic and instance images together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.data.formats.labels import read_color_ids, read_label
from maskformer_ext.data.listing import list_files
from maskformer_ext.data.readers.label_images import check_values, value_table
from maskformer_ext.data.readers.pairs import (
    PairedImages,
    check_same_size,
    pair_files,
)
from maskformer_ext.data.tables import load_categories
from maskformer_ext.data.targets import count_ids, ids_tensor, segments_from_ids
from maskformer_ext.data.tasks import TaskView
from maskformer_ext.errors import UserError
from maskformer_ext.media.extensions import LABEL_EXTENSIONS
from maskformer_ext.media.images import read_image
from maskformer_ext.ops.targets import VOID

_INSTANCE_IDS = 1 << 16  # category in the low byte, number in the high one


class AdePanoptic(PairedImages):
    """ADE20K's semantic and instance images together: stuff from the former, and every instance pasted over it.

    Pixels of a thing class without instance are void.

    Args:
        images: the folder of images.
        labels: the folder of label images, 0 to 150.
        instances: the folder of RGB images: R = category of the instance, 1 to 100, G = its number; R = 0 is none.
        task: "panoptic", "instance" or "semantic".
        skip_errors: leave out files without partner instead of raising.
    """

    def __init__(
        self, images: Path, labels: Path, instances: Path, *, task: str = "panoptic", skip_errors: bool = False
    ) -> None:
        categories = load_categories("ade20k")
        if not instances.is_dir():
            raise UserError(f"the folder {instances} is missing: it holds the instance images of ade20k_panoptic.")
        self.view = TaskView("ade20k_panoptic", categories.table, task)
        self.info = self.view.info
        self.class_of_value = value_table(categories.ids, void=[0])
        things = [number for number in categories.instance_ids if number]
        self.class_of_category = value_table(things, void=[0])
        self.class_of_category[things] = categories.table.things
        stuff = self.class_of_value.copy()
        stuff[np.isin(stuff, categories.table.things)] = VOID
        of_instances = self.class_of_category[np.arange(_INSTANCE_IDS) & 255]
        self._class_of_id = torch.from_numpy(np.concatenate([stuff, of_instances])).long().clamp_(min=VOID)
        pairs, problems = pair_files(images, labels)
        found = list_files(instances, LABEL_EXTENSIONS)
        found.report()
        missing = [f"{instances / name}.png is missing." for name, _, _ in pairs if name not in found.files]
        pairs = [pair for pair in pairs if pair[0] in found.files]
        self.instance_image = {label: found.files[name] for name, _, label in pairs}
        where = f"{images} holds no image with a label in {labels} and {instances}"
        super().__init__(pairs, [*problems, *missing], skip_errors=skip_errors, where=where)

    def read(self, image: Path, label: Path) -> tuple[Tensor, np.ndarray]:
        """Return the image and (H, W) int32: the value of the label image, or beyond those the id of an instance."""
        values = read_label(label, exif=self.exif)
        self._check(values, self.class_of_value, label)
        path = self.instance_image[label]
        ids = read_color_ids(path, exif=self.exif)
        check_same_size(path, ids.shape, label, values.shape)
        self._check(ids & 255, self.class_of_category, path)
        owners = np.where(ids & 255, len(self.class_of_value) + (ids & 0xFFFF), values).astype(np.int32)
        return read_image(image, exif=self.exif), owners

    def _check(self, values: np.ndarray, table: np.ndarray, path: Path) -> None:
        check_values(values, count_ids(ids_tensor(values), len(table)), table, path, self.info.name)

    def segments(self, label: np.ndarray, path: Path) -> tuple[Tensor, Tensor]:
        return self.view.segments(*segments_from_ids(ids_tensor(label), self._class_of_id))
