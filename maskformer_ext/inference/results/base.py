"""What the three results of `segment` share: names, pictures, files, other formats, and their segments one by one."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

import numpy as np
from PIL import Image

from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.inference.results.context import Context
from maskformer_ext.inference.results.segment_view import Segment
from maskformer_ext.inference.results.times import Laps, Times
from maskformer_ext.inference.results.words import summarize

if TYPE_CHECKING:
    import supervision

PICTURED_SCORE = 0.5
"""Instances of a lower score are not drawn."""

LONG_SIDE = 2048
"""Longer side of an overlay in pixels at most."""

_R = TypeVar("_R", bound="Result")


class Result(ABC):
    """A segmentation of one image, and where it comes from.

    It is a sequence of its segments: ``len(result)``, ``result[0]`` and ``for segment in result`` work. Segments are
    counted once, so the tensors of a result should not be changed.

    Attributes:
        task: "semantic", "panoptic" or "instance".
        context: what `segment` attached.
    """

    task: ClassVar[str]
    context: Context

    # What each kind says of itself.

    if TYPE_CHECKING:  # a field of some kinds, which a property here would hide

        @property
        def size(self) -> tuple[int, int]:
            """Height and width in pixels."""

    @abstractmethod
    def id_map(self, *, min_score: float = PICTURED_SCORE) -> np.ndarray:
        """Return one integer per pixel, as `predict` writes it.

        Args:
            min_score: instances below it own no pixel.

        Returns:
            (H, W): class ids, uint8 or uint16, of a semantic result; otherwise segment ids, uint16, 0 = none.

        Raises:
            UserError: if there are more segments than 16 bits can number.
        """

    @abstractmethod
    def mask_of(self, index: int) -> np.ndarray:
        """Return the mask (H, W) bool of a segment."""

    @abstractmethod
    def rle_of(self, index: int) -> dict[str, Any]:
        """Return a segment's mask as COCO run lengths, ``{"size": [H, W], "counts": str}``."""

    @abstractmethod
    def _numbered_info(self) -> DatasetInfo:
        """Return numbered classes that are enough for this result."""

    @abstractmethod
    def _list_segments(self) -> list[dict[str, Any]]:
        """Return what `describe` does, without run lengths."""

    # What it is.

    @cached_property
    def info(self) -> DatasetInfo:
        """The classes; numbered ones where none are known."""
        return self.context.info or self._numbered_info()

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each class; the index is the class id."""
        return self.info.classes

    @property
    def image(self) -> Any:
        """The image, as `segment` was given it; None where it is not known."""
        return self.context.image

    @property
    def times(self) -> Times | None:
        """Milliseconds of each step; None where they were not measured. On a GPU this waits for the result."""
        times = self.context.times
        return times.times() if isinstance(times, Laps) else times

    def with_context(self: _R, **changes: Any) -> _R:
        """Return the same result with other fields of its ``Context``, such as ``info=`` or ``image=``."""
        return replace(self, context=replace(self.context, **changes))  # type: ignore[type-var]

    # Its segments.

    @cached_property
    def _segments(self) -> list[dict[str, Any]]:
        return self._list_segments()

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[Segment]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Segment: ...
    @overload
    def __getitem__(self, index: slice) -> Any: ...
    def __getitem__(self, index: Any) -> Any:
        """Return a segment, or a list of those in a slice."""
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        try:
            place = range(len(self))[operator.index(index)]
        except IndexError:
            raise IndexError(f"there are {len(self)} segments, got the index {index}") from None
        values = self._segments[place]
        return Segment(
            values["id"],
            values["category_id"],
            values["category"],
            values["isthing"],
            values.get("score"),
            values["area"],
            (values["box"][0], values["box"][1], values["box"][2], values["box"][3]),
            self,
            place,
        )

    def describe_briefly(self) -> list[dict[str, Any]]:
        """Return what `describe` does, with exact scores and without run lengths; the same list every time."""
        return self._segments

    def describe(self) -> list[dict[str, Any]]:
        """Return what `predict` writes of each segment.

        Returns:
            Dicts with ``id`` (its value in `id_map`), ``category_id``, ``category``, ``isthing``, ``area`` and ``box``
            (x0, y0, x1, y1, half-open). All but semantic results add ``score``, instances also ``rle``.
        """
        return [
            {key: round(value, 6) if key == "score" else value for key, value in segment.items()}
            for segment in self._segments
        ]

    # Pictures and files.

    def plot(
        self,
        *,
        image: Any = None,
        names: bool = True,
        legend: bool = True,
        min_score: float = PICTURED_SCORE,
        alpha: float = 0.5,
        size: int = LONG_SIDE,
    ) -> Image.Image:
        """Draw the segments over the image.

        Args:
            image: drawn on, in any form that `segment` takes and of any size; None: the image that was segmented.
            names: write class names on the segments that have room.
            legend: put the classes below the picture.
            min_score: instances below it are not drawn.
            alpha: how much the colours cover the image, 0..1.
            size: longer side in pixels at most, without the legend; 0 = never smaller than the image. Small images are
                enlarged within it.

        Returns:
            An RGB picture. ``numpy.asarray`` makes an array (h, w, 3) uint8 of it.

        Raises:
            ValueError: if the image is not known, or an option is out of range.
            UserError: if the image's file can no longer be read.
        """
        from maskformer_ext.inference.results.drawing import draw_result

        return draw_result(
            self, image, names=names, legend=legend, min_score=min_score, opacity=alpha, longest_side=size
        )

    def save(self, path: str | Path, *, name: str | None = None, **options: Any) -> Path:
        """Write the overlay, or everything that `predict` writes.

        Args:
            path: a picture, such as ``out.png``: the overlay. Or a folder: it gets ``overlays/NAME.png``,
                ``ids/NAME.png`` and ``json/NAME.json``.
            name: of the files in a folder; None: that of the image's file. An image without a file is called
                ``image``, with a number that is free where the folder holds that name.
            options: those of `plot`.

        Returns:
            The file of the overlay.

        Raises:
            UserError: if a file cannot be written, or a folder already holds the results of another image by that name.
            ValueError: if the ending is that of no picture; also as `plot`.
        """
        from maskformer_ext.inference.results.saving import save_result

        return save_result(self, path, name, options)

    # Other formats.

    def to_rle(self) -> list[dict[str, Any]]:
        """Return each segment's mask as COCO run lengths, ``{"size": [H, W], "counts": str}``."""
        return [self.rle_of(index) for index in range(len(self))]

    def to_coco(
        self,
        *,
        image_id: int | str = 0,
        category_ids: Sequence[int | str] | Mapping[int, int | str] | None = None,
        min_score: float = 0.0,
    ) -> list[dict[str, Any]]:
        """Return the segments as annotations of COCO's JSON format.

        Args:
            image_id: of the image in that file.
            category_ids: id of each class; None: those of the annotation file that the classes were read from, else
                1 + the class id.
            min_score: instances below it are left out.

        Returns:
            Dicts with ``id`` (from 1), ``image_id``, ``category_id``, ``segmentation`` (compressed run lengths),
            ``area``, ``bbox`` (x, y, width, height), ``iscrowd`` and, but for semantic results, ``score``.

        Raises:
            ValueError: if a class has no id.
        """
        from maskformer_ext.inference.results.formats import coco_annotations

        return coco_annotations(self, image_id, category_ids, min_score)

    def to_yolo(
        self,
        path: str | Path | None = None,
        *,
        min_score: float = PICTURED_SCORE,
        scores: bool = False,
        tolerance: float = 0.5,
    ) -> list[str]:
        """Return the things as lines of YOLO's segmentation labels: ``class x y x y ...``, from 0 to 1.

        One line is one thing. As ultralytics does, its parts are joined to one polygon by lines there and back, and
        its holes are filled. Stuff is left out: with its holes filled it would cover the things in it.

        Args:
            path: a text file to write too, or a folder, where it is called as the image.
            min_score: instances below it are left out.
            scores: add the score at the end of each line.
            tolerance: pixels by which a polygon may leave the mask's border, to have fewer points.

        Raises:
            ValueError: if the result is a semantic one, which tells no things apart.
            UserError: if the file cannot be written.
        """
        from maskformer_ext.inference.results.formats import yolo_lines

        return yolo_lines(self, path, min_score, scores, tolerance)

    def to_supervision(self, *, min_score: float = PICTURED_SCORE) -> supervision.Detections:
        """Return the segments as detections of the package supervision.

        Args:
            min_score: instances below it are left out.

        Returns:
            ``Detections`` with ``xyxy``, ``mask`` (n, H, W), ``class_id``, ``data["class_name"]`` and, but for
            semantic results, ``confidence``.

        Raises:
            UserError: if supervision is not installed.
        """
        from maskformer_ext.inference.results.formats import supervision_detections

        return supervision_detections(self, min_score)

    # How it shows itself.

    def summary(self, *, min_score: float = PICTURED_SCORE) -> str:
        """Return in a few words what was found, as `predict` prints it: ``2 car, 1 person, road 41%``.

        Args:
            min_score: instances below it are not told.
        """
        return summarize(self.describe_briefly(), self.task, self.size[0] * self.size[1], min_score)

    def __repr__(self) -> str:
        from maskformer_ext.inference.results.showing import short_text

        return short_text(self)

    def _repr_png_(self) -> bytes | None:
        from maskformer_ext.inference.results.showing import png_of

        return png_of(self)

    def _repr_html_(self) -> str:
        from maskformer_ext.inference.results.showing import page_of

        return page_of(self)
