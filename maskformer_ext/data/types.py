"""What the data sets hand out: a description of the classes, one sample, one batch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from maskformer_ext.data.targets import drop_empty
from maskformer_ext.media.images import normalize
from maskformer_ext.ops.support.constants import constant
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets


@dataclass(frozen=True)
class FileIds:
    """What an annotation file calls its classes and images, which results that are handed in must repeat.

    Attributes:
        categories: id of each class.
        images: id of each image, by the name of its sample.
    """

    categories: tuple[int | str, ...]
    images: Mapping[str, int | str]


@dataclass(frozen=True)
class DatasetInfo:
    """The classes of a data set.

    Attributes:
        name: what reports call the data set.
        classes: name of each class; the index is the class id.
        colors: RGB in 0..255 of each class, for pictures.
        thing_classes: ids of the classes whose instances are told apart; () where every class is stuff.
        ignore_label: value of a semantic label map where nothing is known.
        file_ids: what the annotation file that was read calls classes and images, if there is one. It belongs to the
            files, not to the classes: it is neither compared nor saved with weights.
    """

    name: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    thing_classes: tuple[int, ...] = ()
    ignore_label: int = 255
    file_ids: ClassVar[FileIds | None] = None

    def with_file_ids(self, ids: FileIds) -> DatasetInfo:
        """Return the same classes with what an annotation file calls them."""
        info = replace(self)
        object.__setattr__(info, "file_ids", ids)
        return info

    @property
    def num_classes(self) -> int:
        """K: how many classes there are, without "no object"."""
        return len(self.classes)


@dataclass(frozen=True)
class TrueInstance:
    """An instance as its file gives it; its mask may overlap others.

    Attributes:
        label: class id.
        rle: COCO run lengths of the mask.
        area: in pixels, as the file says.
        crowd: whether it is a region of many instances that are not told apart.
    """

    label: int
    rle: dict[str, Any]
    area: float
    crowd: bool = False


@dataclass(frozen=True)
class Truth:
    """What predictions of an image are scored against, where that is more than the segments that training uses.

    Attributes:
        segment_map: (H, W) int32 as `Sample`'s, but crowd regions are segments too.
        labels: (T,) int64 class ids.
        crowd: (T,) bool, the segments that are crowd regions; None: there are none.
        instances: the instances as the file gives them; None: those of ``segment_map``.
    """

    segment_map: Tensor
    labels: Tensor
    crowd: Tensor | None = None
    instances: tuple[TrueInstance, ...] | None = None

    def label_map(self, ignore_label: int = 255) -> Tensor:
        """Return the semantic ground truth: (H, W) int64 class ids, ``ignore_label`` where the pixel is void."""
        table = self.labels.new_full((len(self.labels) + 1,), ignore_label)
        table[:-1] = self.labels
        return table[self.segment_map.long()]  # index -1 reads the last entry


@dataclass
class Sample:
    """One image and its segments.

    Attributes:
        image: (3, H, W) uint8 RGB; in memory the channels of a pixel may lie together.
        segment_map: (H, W) int32, the index into ``labels`` of the segment that owns the pixel, -1 = void.
        labels: (T,) int64 class ids.
        name: what error messages and written predictions call the image.
        size: height and width of the original image in pixels, before any augmentation.
        truth: what predictions are scored against, where the segments do not say all; not kept by augmentation.
        masks: (T, H, W) bool, where segments overlap: all of each; ``segment_map`` then says which lies on top. None
            where it says everything.
    """

    image: Tensor
    segment_map: Tensor
    labels: Tensor
    name: str
    size: tuple[int, int]
    truth: Truth | None = None
    masks: Tensor | None = None

    def scored(self) -> Truth:
        """Return what predictions are scored against."""
        return self.truth or Truth(self.segment_map, self.labels)

    def without_overlaps(self) -> Sample:
        """Return the sample as ``segment_map`` shows it; segments that others cover wholly are dropped."""
        if self.masks is None:
            return self
        segment_map, labels = drop_empty(self.segment_map, self.labels)
        return replace(self, segment_map=segment_map, labels=labels, masks=None)

    def label_map(self, ignore_label: int = 255) -> Tensor:
        """Return the classes of the segments: (H, W) int64 class ids, ``ignore_label`` where the pixel is void."""
        return Truth(self.segment_map, self.labels).label_map(ignore_label)


class SampleDataset(Protocol):
    """What every data set offers: samples as stored, without augmentation."""

    info: DatasetInfo

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


@dataclass
class Batch:
    """Network input and targets of several images.

    Attributes:
        pixels: (B, 3, H, W) uint8, padded at the right and bottom. These travel from process to process and to the
            device, as they are a quarter of the bytes of ``images``.
        targets: segments on the (H, W) grid; padding is void. ``MaskTargets`` where segments of an image overlap.
        sizes: height and width of each image inside the padded input, in pixels.
        filled: the same with the grey border that belongs to the picture; beyond it lies padding.
        original_sizes: height and width of each image as stored, in pixels.
        names: one name per image.
        mean: of each channel, in grey levels, to be subtracted.
        std: of each channel, in grey levels, to divide by.
        skipped: one sentence for each image that could not be read and was replaced or left out.
    """

    pixels: Tensor
    targets: SegmentTargets | MaskTargets
    sizes: list[tuple[int, int]]
    filled: list[tuple[int, int]]
    original_sizes: list[tuple[int, int]]
    names: list[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def images(self) -> Tensor:
        """(B, 3, H, W) float32: the pixels normalised, padding 0; made on their device when first asked for."""
        return self.normalized()

    def normalized(self, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
        """Return ``images`` anew, laid out in memory as a network wants them."""
        mean, std = (constant(values, torch.float32, self.pixels.device) for values in (self.mean, self.std))
        images = normalize(self.pixels, mean, std, memory_format)
        for image, (height, width) in zip(images, self.filled, strict=True):
            if (height, width) != tuple(image.shape[1:]):
                image[:, height:] = 0
                image[:, :, width:] = 0
        return images

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Move pixels and targets to a device."""
        return replace(
            self,
            pixels=self.pixels.to(device, non_blocking=non_blocking),
            targets=self.targets.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Batch:
        """Copy pixels and targets to page-locked memory (called by the data loader)."""
        return replace(self, pixels=self.pixels.pin_memory(), targets=self.targets.pin_memory())
