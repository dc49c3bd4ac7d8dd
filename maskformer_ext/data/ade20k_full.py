"""ADE20K with its full vocabulary (ADE20K_2021_17_01): the 847 classes that are frequent enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.data.pairs import Pair, check_same_size, pair_files, read_color_ids
from maskformer_ext.data.semantic import LabelImages, value_table
from maskformer_ext.data.tables import VOID_VALUES, load_categories
from maskformer_ext.media.images import read_image, shortest_edge_size

FOLDERS = {"train": "training", "val": "validation"}
IGNORE_LABEL = VOID_VALUES["ade20k_full"]
SHORT_SIDE = 512
_IDS = 26 * 256  # (R // 10) * 256 + G is below


class Ade20kFull(LabelImages):
    """A split of ADE20K-847: photographs with a ``_seg.png`` beside each, in any subfolder of ``images/ADE``.

    The class is (R // 10) * 256 + G of the label's colour; classes outside the 847 are void. Images whose sides both
    exceed 512 pixels are shrunk to a shorter side of 512 (images linear, labels nearest), as the original uses them.
    Files converted before are read where they exist: ``images_detectron2`` and ``annotations_detectron2`` (16-bit
    TIFF, 65535 = void). The index, a pickle, is never opened.

    Args:
        root: the folder ``ADE20K_2021_17_01``.
        split: "train" or "val".
        skip_errors: leave out files without partner instead of raising.
    """

    def __init__(self, root: Path, split: str, *, skip_errors: bool = False) -> None:
        categories, folder = load_categories("ade20k_full"), FOLDERS[split]
        images, labels = root / "images_detectron2" / folder, root / "annotations_detectron2" / folder
        self.converted = images.is_dir() and labels.is_dir()
        pairs: list[Pair]
        if self.converted:
            pairs, problems = pair_files(images, labels)
            values = value_table(range(len(categories.ids)), void=[IGNORE_LABEL], size=IGNORE_LABEL + 1)
        else:
            images = labels = root / "images" / "ADE" / folder
            pairs, problems = pair_files(images, labels, image_ending=".jpg", label_ending="_seg.png")
            values = value_table(categories.ids, void=range(_IDS), size=_IDS)
        super().__init__(
            "ade20k_full",
            categories.table,
            pairs,
            values,
            ignore_label=IGNORE_LABEL,
            problems=problems,
            skip_errors=skip_errors,
            where=f"{images} holds no image with a label in {labels}",
        )

    def read(self, image: Path, label: Path) -> tuple[Tensor, np.ndarray]:
        """Read both, and shrink them unless they are converted."""
        if self.converted:
            return super().read(image, label)
        pixels, colors = read_image(image, exif=self.exif), read_color_ids(label, exif=self.exif)
        check_same_size(label, colors.shape, image, tuple(pixels.shape[-2:]))
        return shrink(pixels, ((colors & 255) // 10 * 256 + (colors >> 8 & 255)).astype(np.uint16))


def shrink(pixels: Tensor, label: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Shrink an image (3, H, W) uint8 and its labels (H, W) to a shorter side of 512, unless a side is no longer."""
    height, width = label.shape
    if min(height, width) <= SHORT_SIDE:
        return pixels, label
    size = shortest_edge_size(height, width, SHORT_SIDE, 0)
    small = torch.nn.functional.interpolate(pixels[None].float(), size, mode="bilinear", align_corners=False)[0]
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, (height, width), strict=True))
    return small.round().to(torch.uint8), np.ascontiguousarray(label[rows[:, None], columns])
