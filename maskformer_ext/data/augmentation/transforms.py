"""Augmentation of training samples: image and segment map, and one mask per segment only where segments overlap.

Every random number comes from the generator that is passed in, so that a sample depends on nothing but its seed. The
image is resized as it lies in memory after decoding: channels last, for which torch's kernel is several times faster.
What the crop keeps is then copied once into planes, which colours and batches need. The segment map is moved once, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as v2

from maskformer_ext.config import AugmentationConfig
from maskformer_ext.data.augmentation.colors import jitter_colors
from maskformer_ext.data.augmentation.draws import integer
from maskformer_ext.data.augmentation.grid import PixelGrid
from maskformer_ext.data.targets import count_segments, drop_empty, keep_segments
from maskformer_ext.data.types import Sample
from maskformer_ext.errors import UserError
from maskformer_ext.media.images import shortest_edge_size

CROP_TRIES = 10


class Augment:
    """Zoom, resize, quarter turn, crop, colour jitter and flips, in this order.

    Images that stay smaller than the crop are padded when a batch is put together.

    Args:
        config: which of them, and their sizes.
        drop_empty_segments: drop the segments that the crop removed.

    Raises:
        UserError: if a size is not positive.
    """

    def __init__(self, config: AugmentationConfig, *, drop_empty_segments: bool) -> None:
        if len(config.crop_size) not in (0, 2) or any(size < 1 for size in [*config.crop_size, *config.min_sizes]):
            raise UserError(
                "data.augmentation.crop_size must be [height, width] or [] and min_sizes positive, "
                f"got {list(config.crop_size)} and {list(config.min_sizes)}."
            )
        if not 1 <= config.zoom_range[0] <= config.zoom_range[1] or any(size < 1 for size in config.zoom_sizes):
            raise UserError(
                "data.augmentation.zoom_range must be [least, most] and zoom_sizes positive, "
                f"got {list(config.zoom_range)} and {list(config.zoom_sizes)}."
            )
        self.config, self.drop_empty_segments = config, drop_empty_segments

    def __call__(self, sample: Sample, generator: Generator) -> Sample:
        """Return an augmented copy of a sample."""
        config = self.config
        image, segments, labels = sample.image, sample.segment_map, sample.labels
        grid = PixelGrid((image.shape[-2], image.shape[-1]))
        if config.zoom_sizes and integer(2, generator):
            image = _resize(image, grid, config.zoom_sizes, 0, generator)
            least, most = config.zoom_range
            sides = [min(side, least) + integer(max(min(side, most) - least, 0) + 1, generator) for side in grid.shape]
            image = _crop(image, grid, choose_crop(grid, segments, labels, sides, 1.0, generator))
        if config.min_sizes:
            image = _resize(image, grid, config.min_sizes, config.max_size, generator)
        if config.rotate90:
            turns = integer(4, generator)
            grid.rotate90(turns)
            image = torch.rot90(image, turns, (-2, -1))
        if config.crop_size:
            limit = config.single_category_max_area
            image = _crop(image, grid, choose_crop(grid, segments, labels, config.crop_size, limit, generator))
        image = image.contiguous()
        if config.color:
            image = jitter_colors(image, generator)
        for enabled, axis in ((config.horizontal_flip, 1), (config.vertical_flip, 0)):
            if enabled and integer(2, generator):
                grid.flip(axis)
                image = image.flip(axis - 2)
        segments = grid.read(segments)
        masks = None if sample.masks is None else grid.read(sample.masks)
        if self.drop_empty_segments and masks is None:
            segments, labels = drop_empty(segments, labels)
        elif self.drop_empty_segments and masks is not None:
            present = masks.flatten(1).any(1)
            segments, labels = keep_segments(segments, labels, present)
            masks = masks[present]
        return replace(sample, image=image, segment_map=segments, labels=labels, truth=None, masks=masks)


def choose_crop(
    grid: PixelGrid,
    segment_map: Tensor,
    labels: Tensor,
    crop_size: Sequence[int],
    single_category_max_area: float,
    generator: Generator,
) -> tuple[int, int, int, int]:
    """Choose a random crop, avoiding those that one class fills.

    Args:
        grid: the picture to crop.
        segment_map: (H, W) integer, what the grid reads.
        labels: (T,) int64 class of each segment.
        crop_size: height and width; the crop is smaller where the image is.
        single_category_max_area: a crop is drawn anew while one class covers at least this share of its non-void
            pixels, up to 10 times in all. 1 accepts any.
        generator: the source of randomness.

    Returns:
        top, left, height, width in pixels.
    """
    rows, columns = grid.shape
    height, width = min(crop_size[0], rows), min(crop_size[1], columns)
    for _ in range(CROP_TRIES):
        box = integer(rows - height + 1, generator), integer(columns - width + 1, generator), height, width
        if single_category_max_area >= 1.0:
            break
        _, areas = count_segments(grid.read(segment_map, box), len(labels))
        of_classes = torch.bincount(labels, areas.double(), minlength=1)  # whole numbers, so exact
        if float(of_classes.max()) < float(of_classes.sum()) * single_category_max_area:
            break
    return box


def _crop(image: Tensor, grid: PixelGrid, box: tuple[int, int, int, int]) -> Tensor:
    grid.crop(*box)
    top, left, height, width = box
    return image[:, top : top + height, left : left + width]


def _resize(image: Tensor, grid: PixelGrid, sizes: Sequence[int], max_size: int, generator: Generator) -> Tensor:
    """Bring the shortest side to one of ``sizes``, the longest to ``max_size`` at most (0 = any)."""
    size = shortest_edge_size(*grid.shape, sizes[integer(len(sizes), generator)], max_size)
    if size == grid.shape:
        return image
    grid.resize(size)
    return v2.resize(image, list(size), antialias=True)
