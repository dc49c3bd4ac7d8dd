"""The colour images of the full ADE20K, whose labels and photographs are shrunk as they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.data.formats.labels import read_color_ids
from maskformer_ext.data.readers.label_images import LabelImages
from maskformer_ext.data.readers.pairs import check_same_size
from maskformer_ext.media.images import read_image, shortest_edge_size

SHORT_SIDE = 512


class Ade20kFull(LabelImages):
    """Photographs with a ``_seg.png`` each, in whose colours the class is (R // 10) * 256 + G.

    Images whose sides both exceed 512 pixels are shrunk to a shorter side of 512 (images linear, labels nearest), as
    the original uses them.
    """

    def read(self, image: Path, label: Path) -> tuple[Tensor, np.ndarray]:
        """Read both, and shrink them."""
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
