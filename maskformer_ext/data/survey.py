"""A short look at the labels of a data set: which classes own pixels, how much is void, how many instances."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.data.readers.pairs import PairedImages
from maskformer_ext.data.targets import count_segments
from maskformer_ext.data.types import DatasetInfo, Sample, SampleDataset
from maskformer_ext.errors import UserError, printable
from maskformer_ext.media.decoding import open_image

TINY = 4
"""Pixels that an object has at least, unless it is probably a slip of the pen."""

_LEAST = 12  # images that are looked at whatever the time


@dataclass
class Survey:
    """What the labels of some images of a split hold.

    Attributes:
        info: the classes.
        split: "train" or "val".
        total: images of the split.
        first: number of the first class in the label images.
        void_value: of void in the label images; None where they hold no class numbers.
        looked: images whose labels were read.
        pixels: (K,) pixels of each class.
        images: (K,) images in which each class owns a pixel.
        segments: (K,) segments of each class.
        tiny: segments of thing classes that own fewer than `TINY` pixels.
        void: pixels where nothing is known.
        all_void: images that are void everywhere.
        instances: of thing classes, in each image.
        lone_ids: the value of the only instance, where an image has one only and a label image says so.
        in_parts: images whose only instance lies in several separate parts.
        problems: one sentence for each image that cannot be read.
    """

    info: DatasetInfo
    split: str
    total: int
    first: int = 0
    void_value: int | None = None
    looked: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    images: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    segments: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    tiny: int = 0
    void: int = 0
    all_void: int = 0
    instances: list[int] = field(default_factory=list)
    lone_ids: list[int] = field(default_factory=list)
    in_parts: int = 0
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, dataset: SampleDataset, split: str) -> Survey:
        """Return the survey of a data set that has not been looked at."""
        first, void = getattr(dataset, "first", 0), getattr(dataset, "void", None)
        return cls(dataset.info, split, len(dataset), first, void)

    def __post_init__(self) -> None:
        self.pixels = np.zeros(self.info.num_classes, np.int64)
        self.images = np.zeros(self.info.num_classes, np.int64)
        self.segments = np.zeros(self.info.num_classes, np.int64)

    @property
    def complete(self) -> bool:
        """Whether every image of the split was looked at."""
        return self.looked + len(self.problems) >= self.total

    @property
    def void_share(self) -> float:
        """The share of all pixels that is void."""
        return self.void / max(1, self.void + int(self.pixels.sum()))

    @property
    def absent(self) -> list[int]:
        """The classes that own no pixel."""
        return np.flatnonzero(self.pixels == 0).tolist()

    @property
    def extent(self) -> str:
        """How many images were looked at, in words."""
        return f"{self.looked} of {self.total} images looked at"

    def add(self, count: Count) -> None:
        """Add an image."""
        self.looked += 1
        self.pixels += count.pixels
        self.images += count.pixels > 0
        self.segments += count.segments
        self.tiny += count.tiny
        self.void += count.void
        self.all_void += int(not count.pixels.any())
        self.instances.append(count.instances)
        if count.lone_id is not None:
            self.lone_ids.append(count.lone_id)
            self.in_parts += int(count.in_parts)


@dataclass(frozen=True)
class Count:
    """What the labels of one image hold.

    Attributes:
        pixels: (K,) pixels of each class.
        void: pixels where nothing is known.
        segments: (K,) segments of each class.
        instances: of thing classes.
        tiny: segments of thing classes that own fewer than `TINY` pixels.
        lone_id: the value of the only instance, where there is one only and a label image says so.
        in_parts: whether that instance lies in several separate parts.
    """

    pixels: np.ndarray
    void: int
    segments: np.ndarray
    instances: int
    tiny: int
    lone_id: int | None = None
    in_parts: bool = False


def count_labels(dataset: SampleDataset, index: int, sample: Sample | None = None) -> Count:
    """Count the labels of an image; where they have a file of their own, the image is not read.

    Args:
        dataset: what holds the image.
        index: of the image.
        sample: of that index, where the caller has read it; None: it is read here if it is needed.

    Raises:
        UserError: if its files cannot be read or do not fit.
    """
    if isinstance(dataset, PairedImages) and type(dataset).read is PairedImages.read:
        path = dataset.pairs[index][2]
        ids = dataset.read_labels(path)
        return count_classes(dataset.info, *dataset.segments(ids, path), ids)
    return count_sample(dataset.info, dataset[index] if sample is None else sample)


def count_sample(info: DatasetInfo, sample: Sample) -> Count:
    """Count the labels of a sample."""
    sample = sample.without_overlaps()
    return count_classes(info, sample.segment_map, sample.labels)


def count_classes(info: DatasetInfo, segment_map: Tensor, labels: Tensor, ids: np.ndarray | None = None) -> Count:
    """Count the segments of an image and the pixels of their classes.

    Args:
        info: the classes.
        segment_map: (H, W) int32, VOID = -1.
        labels: (T,) int64 class ids.
        ids: (H, W) the values of the label image, where there is one.
    """
    void, areas = count_segments(segment_map, len(labels))
    pixels = torch.bincount(labels, areas.double(), minlength=info.num_classes).long().numpy()
    segments = torch.bincount(labels, minlength=info.num_classes).numpy()
    things = np.flatnonzero(np.isin(labels.numpy(), info.thing_classes))
    tiny = int((areas.numpy()[things] < TINY).sum())
    if len(things) != 1 or ids is None:
        return Count(pixels, void, segments, len(things), tiny)
    inside = segment_map.numpy() == things[0]
    return Count(pixels, void, segments, 1, tiny, int(ids[inside][0]), least_parts(inside) > 1)


def look(
    dataset: SampleDataset,
    split: str,
    *,
    most: int | None = 64,
    seconds: float = math.inf,
    patience: float | None = None,
) -> Survey:
    """Look at the labels of images that are spread at random over a data set; of images with a label file only that.

    Args:
        dataset: what to look at.
        split: its name.
        most: images; None: all.
        seconds: stop after this time, but never before the first few images.
        patience: go on for so long, with any number of images, while too few classes were seen. Too few are fewer than
            two, or none where there is one. None: do not go on.

    Raises:
        UserError: never for an image that cannot be read, which is among the survey's problems.
    """
    survey, started = Survey.of(dataset, split), time.monotonic()
    order = random.Random(0).sample(range(len(dataset)), len(dataset))
    for done, index in enumerate(order):
        spent = time.monotonic() - started
        enough = (most is not None and done >= most) or spent > seconds
        if enough and done >= _LEAST:
            little = np.count_nonzero(survey.pixels) < min(2, dataset.info.num_classes)
            if patience is None or not little or spent > patience:
                break
        try:
            survey.add(count_labels(dataset, index))
        except UserError as error:
            survey.problems.append(str(error))
    return survey


def shapes(dataset: SampleDataset, *, most: int = 200, seconds: float = 2.0) -> list[tuple[int, int]]:
    """Return height and width of some images, from the headers of their files where that is enough."""
    found: list[tuple[int, int]] = []
    started = time.monotonic()
    for index in random.Random(1).sample(range(len(dataset)), len(dataset))[:most]:
        if len(found) >= _LEAST and time.monotonic() - started > seconds:
            break
        try:
            if isinstance(dataset, PairedImages):
                with open_image(dataset.pairs[index][1]) as image:
                    found.append((image.height, image.width))
            else:
                found.append(dataset[index].size)
        except UserError:
            continue
    return found


def least_parts(mask: np.ndarray) -> int:
    """Return the least number of separate parts that a mask has: parts minus holes, 8-connected.

    Source: S. B. Gray, "Local Properties of Binary Images in Two Dimensions", 1971 (bit quads).

    Args:
        mask: (H, W) bool.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    a, b, c, d = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    quads = a + b + c + d
    diagonal = np.count_nonzero((quads == 2) & (a == d))
    return int((np.count_nonzero(quads == 1) - np.count_nonzero(quads == 3) - 2 * diagonal) // 4)


def describe(survey: Survey) -> str:
    """Return what a survey found, in one line: the classes and their shares, or how many they are, and void."""
    info, total = survey.info, max(1, survey.void + int(survey.pixels.sum()))
    if info.num_classes <= 12:
        shares = [f"{printable(info.classes[k])} {percent(survey.pixels[k] / total)}" for k in range(info.num_classes)]
    else:
        shares = [f"{info.num_classes - len(survey.absent)} of {info.num_classes} classes"]
    void = "void" if survey.void_value is None else f"void ({survey.void_value})"
    rest = void if len(info.thing_classes) < info.num_classes else "outside instances"
    shares.append(f"{rest} {percent(survey.void_share)}")
    most = max(survey.instances, default=0)
    counted = (
        f", at most {most} instance{'s' * (most != 1)} per image" if info.thing_classes and survey.instances else ""
    )
    return f"{survey.split} labels, {survey.extent}: {', '.join(shares)}{counted}"


def percent(share: float) -> str:
    """Return a share in percent, with enough digits to tell it from nothing."""
    if 0 < share < 0.0005:
        return "<0.1%"
    return f"{100 * share:.1f}%"
