"""Augmentation of training samples with torchvision's transforms v2: image and segment map, never one mask a segment.

Every random number comes from the generator that is passed in, so that a sample depends on nothing but its seed. The
values (brightness 32, contrast and saturation 0.5 to 1.5, hue 18 of OpenCV's 180) are those of the SSD detector's paper
(Liu et al. 2016) as the MaskFormer recipes use them.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as v2

from maskformer_ext.config import AugmentationConfig
from maskformer_ext.data.targets import drop_empty
from maskformer_ext.data.types import Sample
from maskformer_ext.errors import UserError
from maskformer_ext.images import shortest_edge_size

CROP_TRIES = 10
_BRIGHTNESS = 32
_FACTOR = (0.5, 1.5)
_HUE = 18 / 180


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
        image, segments = _wrap(sample.image, sample.segment_map)
        if config.zoom_sizes and _integer(2, generator):
            image, segments = _resize(image, segments, config.zoom_sizes, 0, generator)
            least, most = config.zoom_range
            sides = [
                min(side, least) + _integer(max(min(side, most) - least, 0) + 1, generator) for side in segments.shape
            ]
            box = choose_crop(segments, sample.labels, sides, 1.0, generator)
            image, segments = (v2.crop(x, *box) for x in (image, segments))
        if config.min_sizes:
            image, segments = _resize(image, segments, config.min_sizes, config.max_size, generator)
        if config.rotate90:
            turns = _integer(4, generator)
            image, segments = _wrap(*(torch.rot90(x, turns, (-2, -1)) for x in (image, segments)))
        if config.crop_size:
            box = choose_crop(segments, sample.labels, config.crop_size, config.single_category_max_area, generator)
            image, segments = (v2.crop(x, *box) for x in (image, segments))
        if config.color:
            image = tv_tensors.Image(jitter_colors(image, generator))
        for enabled, flip in (
            (config.horizontal_flip, v2.horizontal_flip),
            (config.vertical_flip, v2.vertical_flip),
        ):
            if enabled and _integer(2, generator):
                image, segments = flip(image), flip(segments)
        segment_map, labels = segments.as_subclass(Tensor), sample.labels
        if self.drop_empty_segments:
            kept = drop_empty(segment_map.numpy(), labels.numpy())
            segment_map, labels = torch.from_numpy(kept[0]), torch.from_numpy(kept[1])
        return replace(sample, image=image.as_subclass(Tensor), segment_map=segment_map, labels=labels, truth=None)


def choose_crop(
    segment_map: Tensor, labels: Tensor, crop_size: list[int], single_category_max_area: float, generator: Generator
) -> tuple[int, int, int, int]:
    """Choose a random crop, avoiding those that one class fills.

    Args:
        segment_map: (H, W) integer.
        labels: (T,) int64 class of each segment.
        crop_size: height and width; the crop is smaller where the image is.
        single_category_max_area: a crop is drawn anew, up to 10 times in all, while one class covers at least
            this share of its non-void pixels; 1 accepts any.
        generator: the source of randomness.

    Returns:
        top, left, height, width in pixels.
    """
    rows, columns = segment_map.shape
    height, width = min(crop_size[0], rows), min(crop_size[1], columns)
    classes = torch.cat([labels + 1, labels.new_zeros(1)])  # of each segment, from 1; index -1 reads 0, void
    for _ in range(CROP_TRIES):
        top, left = _integer(rows - height + 1, generator), _integer(columns - width + 1, generator)
        if single_category_max_area >= 1.0:
            break
        inside = classes[segment_map[top : top + height, left : left + width].long()]
        counts = torch.bincount(inside.flatten(), minlength=2)[1:]
        if int(counts.max()) < int(counts.sum()) * single_category_max_area:
            break
    return top, left, height, width


def jitter_colors(image: Tensor, generator: Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue, each with probability one half.

    Brightness is a number added, contrast a factor; contrast comes before or after the others at random. Saturation
    blends with the grey image and hue turns the colour circle, as torchvision does.

    Args:
        image: (3, H, W) uint8.
        generator: the source of randomness.

    Returns:
        (3, H, W) uint8.
    """
    pixels = image.as_subclass(Tensor)
    if _integer(2, generator):
        delta = round(_uniform(-_BRIGHTNESS, _BRIGHTNESS, generator))
        pixels = (pixels.to(torch.int16) + delta).clamp_(0, 255).to(torch.uint8)
    contrast_first = bool(_integer(2, generator))
    if contrast_first and _integer(2, generator):
        pixels = v2.adjust_brightness(pixels, _uniform(*_FACTOR, generator))  # a factor on every channel
    if _integer(2, generator):
        pixels = v2.adjust_saturation(pixels, _uniform(*_FACTOR, generator))
    if _integer(2, generator):
        pixels = v2.adjust_hue(pixels, _uniform(-_HUE, _HUE, generator))
    if not contrast_first and _integer(2, generator):
        pixels = v2.adjust_brightness(pixels, _uniform(*_FACTOR, generator))
    return pixels


def _wrap(image: Tensor, segments: Tensor) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Mark tensors so that torchvision resizes images smoothly and segment maps to the nearest."""
    return tv_tensors.Image(image), tv_tensors.Mask(segments)


def _resize(
    image: tv_tensors.Image, segments: tv_tensors.Mask, sizes: list[int], max_size: int, generator: Generator
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Bring the shortest side to one of ``sizes``, the longest to ``max_size`` at most (0 = any)."""
    height, width = segments.shape
    min_size = sizes[_integer(len(sizes), generator)]
    size = shortest_edge_size(height, width, min_size, max_size)
    if size == (height, width):
        return image, segments
    return v2.resize(image, list(size), antialias=True), v2.resize(segments, list(size))


def _integer(count: int, generator: Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), dtype=torch.float64, generator=generator))
