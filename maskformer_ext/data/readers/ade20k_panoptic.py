"""ADE20K's semantic and instance images together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from maskformer_ext.data.formats.labels import read_color_ids, read_label
from maskformer_ext.data.readers.label_images import classes_of_values, value_table
from maskformer_ext.data.readers.pairs import (
    PairedImages,
    check_same_size,
    labels_by_name,
    pair_files,
)
from maskformer_ext.data.tables import load_categories
from maskformer_ext.data.targets import segments_from_ids
from maskformer_ext.data.tasks import TaskView
from maskformer_ext.errors import UserError
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
        stuff = np.arange(len(categories.ids))
        stuff[list(categories.table.things)] = VOID
        self._classes = np.append(stuff, VOID)  # of the ids below the instances': stuff classes, and void
        pairs, problems = pair_files(images, labels)
        found = labels_by_name(instances)
        found.report()
        missing = [f"{instances / name}.png is missing." for name, _, _ in pairs if name not in found.files]
        pairs = [pair for pair in pairs if pair[0] in found.files]
        self.instance_image = {label: found.files[name] for name, _, label in pairs}
        where = f"{images} holds no image with a label in {labels} and {instances}"
        super().__init__(pairs, [*problems, *missing], skip_errors=skip_errors, where=where)

    def read(self, image: Path, label: Path) -> tuple[Tensor, np.ndarray]:
        """Return the image and (H, W, 2) int64: semantic class or VOID, instance id or 0."""
        classes = classes_of_values(read_label(label, exif=self.exif), self.class_of_value, label, self.info.name)
        path = self.instance_image[label]
        ids = read_color_ids(path, exif=self.exif)
        check_same_size(path, ids.shape, label, classes.shape)
        classes_of_values(ids & 255, self.class_of_category, path, self.info.name)
        owners = np.where(ids & 255, ids & 0xFFFF, 0)
        return read_image(image, exif=self.exif), np.stack([classes, owners], axis=-1).astype(np.int64)

    def segments(self, label: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
        classes, instances = label[..., 0], label[..., 1]
        count = len(self._classes)
        ids = np.where(instances > 0, count + instances, np.where(classes == VOID, count - 1, classes))
        numbers = np.arange(_INSTANCE_IDS) & 255  # the category of each instance id
        class_of_id = np.concatenate([self._classes, self.class_of_category[numbers]])
        return self.view.segments(*segments_from_ids(ids, class_of_id))
