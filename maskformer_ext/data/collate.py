"""Samples side by side: padded images, and their segments as the targets of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from maskformer_ext.data.streams import MOST_SUBSTITUTES, Item
from maskformer_ext.data.types import Batch, Sample
from maskformer_ext.ops.targets import VOID, MaskTargets, SegmentTargets

_PADDING = 128  # grey level of what lies between an image and the crop size


@dataclass
class Failure:
    """A user's error on its way from a worker: an exception would arrive wrapped in a traceback."""

    message: str


class Collate:
    """Pad samples into a batch.

    Args:
        pixel_mean: of each channel, in grey levels.
        pixel_std: of each channel, in grey levels.
        size_divisibility: sides are rounded up to a multiple of this; 0 or 1 leaves them.
        crop_size: images are first padded to this height and width with grey, as part of the picture; [] does not. All
            other padding is 0 after normalisation.
        skip_errors: leave unreadable images out of the batch; otherwise one of them makes it a ``Failure``.
        replaced: whether the stream has put another image in the place of an unreadable one.
    """

    def __init__(
        self,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisibility: int,
        crop_size: Sequence[int] = (),
        skip_errors: bool = False,
        replaced: bool = False,
    ) -> None:
        self.mean, self.std = tuple(pixel_mean), tuple(pixel_std)
        self.divisor = max(size_divisibility, 1)
        self.crop_size, self.skip_errors, self.replaced = tuple(crop_size), skip_errors, replaced

    def __call__(self, items: Sequence[Item]) -> Batch | Failure:
        problems = [problem for item in items for problem in item.problems]
        samples = [item.sample for item in items if item.sample is not None]
        if problems and not self.skip_errors:
            return Failure(problems[0])
        if self.replaced and len(samples) < len(items):
            return Failure(f"no readable image among {MOST_SUBSTITUTES} in a row: {problems[0]}")
        sizes = [(sample.segment_map.shape[0], sample.segment_map.shape[1]) for sample in samples]
        height, width = self._padded_size(sizes)
        pixels = torch.zeros(len(samples), 3, height, width, dtype=torch.uint8)
        bottom, right = self.crop_size or (0, 0)
        filled = [(max(h, bottom), max(w, right)) for h, w in sizes]
        most = max([len(sample.labels) for sample in samples], default=0)
        narrow = torch.int16 if most <= torch.iinfo(torch.int16).max else torch.int32  # half of what has to be moved
        maps = torch.full((len(samples), height, width), VOID, dtype=narrow)
        labels = torch.zeros(len(samples), most, dtype=torch.int64)
        for row, (sample, (h, w)) in enumerate(zip(samples, sizes, strict=True)):
            pixels[row, :, h:bottom, : max(w, right)] = _PADDING
            pixels[row, :, :h, w:right] = _PADDING
            pixels[row, :, :h, :w] = sample.image
            maps[row, :h, :w] = sample.segment_map
            labels[row, : len(sample.labels)] = sample.labels
        counts = torch.tensor([len(sample.labels) for sample in samples], dtype=torch.int64)
        flat = SegmentTargets(maps, labels, counts)
        overlap = any(sample.masks is not None for sample in samples)
        targets = overlapping_targets(samples, flat) if overlap else flat
        return Batch(
            pixels=pixels,
            targets=targets.with_pairs(),
            sizes=sizes,
            filled=filled,
            original_sizes=[sample.size for sample in samples],
            names=[sample.name for sample in samples],
            mean=self.mean,
            std=self.std,
            skipped=problems,
        )

    def _padded_size(self, sizes: Sequence[tuple[int, ...]]) -> list[int]:
        corner = [*sizes, self.crop_size] if self.crop_size else sizes
        largest = [max((size[axis] for size in corner), default=1) for axis in (0, 1)]
        return [-(-side // self.divisor) * self.divisor for side in largest]


def overlapping_targets(samples: Sequence[Sample], flat: SegmentTargets) -> MaskTargets:
    """Return the masks of all samples: of ``flat`` where segments do not overlap, else the sample's own."""
    masks = flat.to_masks()
    for own, sample in zip(masks.masks, samples, strict=True):
        if sample.masks is not None:
            count, height, width = sample.masks.shape
            own[:count, :height, :width] = sample.masks
    return masks
