"""A short look at the labels of a data set: which classes own pixels, how much is void, how many instances."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maskformer_ext.data.pairs import PairedImages, read_label
from maskformer_ext.data.types import DatasetInfo, SampleDataset
from maskformer_ext.decoding import open_image
from maskformer_ext.errors import UserError, printable

_LEAST = 4  # images that are looked at whatever the time


@dataclass
class Survey:
    """What the labels of some images of a split hold.

    Attributes:
        info: the classes.
        split: "train" or "val".
        total: images of the split.
        looked: images whose labels were read.
        pixels: (K,) pixels of each class.
        images: (K,) images in which each class owns a pixel.
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
    looked: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    images: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    void: int = 0
    all_void: int = 0
    instances: list[int] = field(default_factory=list)
    lone_ids: list[int] = field(default_factory=list)
    in_parts: int = 0
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pixels = np.zeros(self.info.num_classes, np.int64)
        self.images = np.zeros(self.info.num_classes, np.int64)

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

    def add(self, segment_map: np.ndarray, labels: np.ndarray, ids: np.ndarray | None = None) -> None:
        """Count the segments of an image.

        Args:
            segment_map: (H, W) int32, VOID = -1.
            labels: (T,) int64 class ids.
            ids: (H, W) the values of the label image, where there is one.
        """
        areas = np.bincount(segment_map.ravel() + 1, minlength=len(labels) + 1)
        of_class = np.bincount(labels, weights=areas[1:], minlength=self.info.num_classes).astype(np.int64)
        things = np.flatnonzero(np.isin(labels, self.info.thing_classes))
        self.looked += 1
        self.pixels += of_class
        self.images += of_class > 0
        self.void += int(areas[0])
        self.all_void += int(areas[0] == segment_map.size)
        self.instances.append(len(things))
        if len(things) == 1 and ids is not None:
            inside = segment_map == things[0]
            self.lone_ids.append(int(ids[inside][0]))
            self.in_parts += least_parts(inside) > 1


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
        patience: go on for so long, with any number of images, while no more than one class was seen; None: do not.

    Raises:
        UserError: never for an image that cannot be read, which is among the survey's problems.
    """
    survey, started = Survey(dataset.info, split, len(dataset)), time.monotonic()
    order = random.Random(0).sample(range(len(dataset)), len(dataset))
    for done, index in enumerate(order):
        spent = time.monotonic() - started
        enough = (most is not None and done >= most) or spent > seconds
        if enough and done >= _LEAST:
            one_class = np.count_nonzero(survey.pixels) < 2 and dataset.info.num_classes > 1
            if patience is None or not one_class or spent > patience:
                break
        try:
            survey.add(*_segments(dataset, index))
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
    """Return a number that the separate parts of a mask are at least: parts minus holes, 8-connected.

    Source: S. B. Gray, "Local Properties of Binary Images in Two Dimensions", 1971 (bit quads).

    Args:
        mask: (H, W) bool.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    a, b, c, d = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    quads = a + b + c + d
    diagonal = np.count_nonzero((quads == 2) & (a == d))
    return int((np.count_nonzero(quads == 1) - np.count_nonzero(quads == 3) - 2 * diagonal) // 4)


def _segments(dataset: SampleDataset, index: int) -> tuple[Any, ...]:
    if isinstance(dataset, PairedImages) and type(dataset).read is PairedImages.read:  # the image need not be decoded
        path = dataset.pairs[index][2]
        label = read_label(path)
        return *dataset.segments(label, path), label
    sample = dataset[index].without_overlaps()
    return sample.segment_map.numpy(), sample.labels.numpy()


def describe(survey: Survey) -> str:
    """Say in one line what a survey found: the classes and their shares, or how many they are, and void."""
    info, total = survey.info, max(1, survey.void + int(survey.pixels.sum()))
    if info.num_classes <= 12:
        shares = [f"{printable(info.classes[k])} {percent(survey.pixels[k] / total)}" for k in range(info.num_classes)]
    else:
        shares = [f"{info.num_classes - len(survey.absent)} of {info.num_classes} classes"]
    rest = "void" if len(info.thing_classes) < info.num_classes else "outside instances"
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
