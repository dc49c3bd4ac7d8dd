"""The work of `predict`: pictures in, files out, and what fails is named without losing the rest."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskformer_ext.config import InferenceConfig
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.inference import Instances, PanopticResult, SemanticResult, segment
from maskformer_ext.media.images import resize_shortest_edge, write_png
from maskformer_ext.media.videos import frame_rate, is_film, write_film
from maskformer_ext.pictures.queries import QuerySummary, draw_queries, query_masks
from maskformer_ext.pictures.sizes import resize_image, shown_size
from maskformer_ext.prediction.files import description_file, write_prediction
from maskformer_ext.prediction.inputs import Picture, read_pictures

_LARGE = 1 << 25  # pixels of an image that is not kept while it is segmented


@dataclass(frozen=True)
class _Seen:
    """What is needed of a picture: as `Picture`'s, and its height and width.

    ``pixels`` may be of the overlay's size; then ``network_input`` (3, h, w) uint8 is what the network sees.
    """

    source: str
    name: str
    number: int
    is_frame: bool
    size: tuple[int, int]
    pixels: Tensor
    network_input: Tensor | None = None


@dataclass
class PredictionRun:
    """Segment pictures in batches and write what is found; a damaged one is named, the others are done.

    Attributes:
        model: the network.
        info: its classes.
        settings: of inference.
        task: what to do.
        output: the folder of the results.
        names: write class names on the overlays.
        min_score: instances below it are not shown.
        overlay_size: longer side of the overlays at most.
        batch: how many pictures go through the network at once.
        resume: leave out what is done.
        summary: collects what the queries stand for; None: queries are not drawn.
        total: number of pictures so far.
        failed: those of them that could not be read, segmented or written.
        lost: films and the summary that could not be written.
        skipped: pictures that were done already.
        frames: of each video, how many.
        new_frames: the names of videos of which some were segmented in this run.
    """

    model: nn.Module
    info: DatasetInfo
    settings: InferenceConfig
    task: str
    output: Path
    names: bool
    min_score: float
    overlay_size: int
    batch: int
    resume: bool
    summary: QuerySummary | None
    total: int = 0
    failed: int = 0
    lost: int = 0
    skipped: int = 0
    frames: dict[str, int] = field(default_factory=dict)
    new_frames: set[str] = field(default_factory=set)

    def __call__(self, files: list[tuple[Path, str]], progress: Callable[[int, int], None]) -> None:
        """Segment and write the files; ``progress(done, total)`` counts them."""

        def is_done(name: str) -> bool:
            return self.resume and description_file(self.output, name).is_file()

        waiting: list[_Seen] = []
        for picture in read_pictures(files, is_done):
            self.total += 1
            number = picture.number
            if picture.is_frame:
                video = _video(picture)
                self.frames[video] = self.frames.get(video, 0) + 1
            if picture.error is not None:
                self._fail(picture.error)
            elif picture.pixels is None:
                self.skipped += 1
            else:
                waiting.append(self._seen(picture))
            del picture  # a large image need not be kept
            if len(waiting) == self.batch:
                self._segment(waiting, len(files))
                waiting = []
            progress(number, len(files))
        self._segment(waiting, len(files))

    def _seen(self, picture: Picture) -> _Seen:
        """Return what is needed of a picture: of a large one the network's input and the ground of its overlay."""
        assert picture.pixels is not None
        height, width = picture.pixels.shape[-2:]
        size = (int(height), int(width))
        settings = self.settings
        if height * width <= _LARGE or settings.tile or settings.tta or self.summary is not None:
            return _Seen(picture.source, picture.name, picture.number, picture.is_frame, size, picture.pixels)
        ground = resize_image(picture.pixels.permute(1, 2, 0).numpy(), shown_size(*size, long_side=self.overlay_size))
        network_input = resize_shortest_edge(picture.pixels, settings.min_size, settings.max_size)
        shown = torch.from_numpy(np.array(ground)).permute(2, 0, 1)  # Pillow's memory is read-only
        return _Seen(picture.source, picture.name, picture.number, picture.is_frame, size, shown, network_input)

    def _segment(self, pictures: list[_Seen], files: int) -> None:
        """Segment pictures together; where that fails each one alone, as the others may be fine."""
        try:
            results = self._results(pictures)
        except Exception as error:
            if len(pictures) == 1:
                self._fail(_sentence(pictures[0].source, error))
                return
            results = None
        if results is None:  # outside of the handler, which would keep the memory of what failed
            for picture in pictures:
                self._segment([picture], files)
            return
        while pictures:
            self._write(pictures.pop(0), results.pop(0), files)  # popped, so that one result is alive at a time

    def _results(self, pictures: list[_Seen]) -> list[SemanticResult | PanopticResult | Instances]:
        results: list[SemanticResult | PanopticResult | Instances] = []
        for is_ready, group in groupby(pictures, lambda picture: picture.network_input is not None):
            chosen = list(group)
            options: dict[str, Any] = {"task": self.task, "thing_classes": self.info.thing_classes or None}
            if is_ready:  # one by one: each has a size of its own
                settings = replace(self.settings, min_size=0, max_size=0)
                for picture in chosen:
                    found = segment(self.model, picture.network_input, size=picture.size, config=settings, **options)
                    results.append(found)
            else:
                images = [picture.pixels for picture in chosen]
                results += segment(self.model, images, config=self.settings, batch_size=self.batch, **options)
        return results

    def _write(self, picture: _Seen, result: SemanticResult | PanopticResult | Instances, files: int) -> None:
        try:
            found = write_prediction(
                result,
                picture.pixels,
                self.output,
                picture.name,
                source=picture.source,
                task=self.task,
                info=self.info,
                names=self.names,
                min_score=self.min_score,
                overlay_size=self.overlay_size,
                legend=not picture.is_frame,  # frames of a video keep one size
            )
            if picture.is_frame:
                self.new_frames.add(_video(picture))
            if self.summary is not None:
                self._draw_queries(self.summary, picture.pixels, picture.name)
            print(printable(f"{picture.number}/{files}  {picture.source}: {found}"))
        except Exception as error:
            self._fail(_sentence(picture.source, error))

    def write_films(self, files: list[tuple[Path, str]]) -> None:
        """Join the overlays of each video into ``overlays/NAME.mp4``, where there are new ones or no film yet."""
        for path, name in files:
            overlays, film = self.output / "overlays" / name, self.output / "overlays" / f"{name}.mp4"
            numbers = range(self.frames.get(name, 0) if is_film(path) else 0)
            frames = [file for number in numbers if (file := overlays / f"{number:06d}.png").is_file()]
            if not frames or (film.is_file() and name not in self.new_frames):
                continue
            try:
                write_film(frames, film, frame_rate(path))
                print(printable(film))
            except Exception as error:
                self._lose(film, error)

    def write_summary(self) -> None:
        """Write ``queries.png`` where queries were drawn."""
        if self.summary is None or not self.summary.images:
            return
        file = self.output / "queries.png"
        try:
            write_png(self.summary.draw(), file)
        except Exception as error:
            self._lose(file, error)

    def _draw_queries(self, summary: QuerySummary, pixels: Tensor, name: str) -> None:
        classes, masks = query_masks(self.model, pixels, self.settings)
        summary.add(classes, masks)
        drawn = draw_queries(pixels, classes, masks, self.info)
        write_png(drawn, self.output / "queries" / f"{name}.png")

    def _fail(self, message: str) -> None:
        self.failed += 1
        print(f"error: {printable(message)}", file=sys.stderr)

    def _lose(self, file: Path, error: Exception) -> None:
        self.lost += 1
        text = str(error)
        print(f"error: {printable(text if str(file) in text else f'{file}: {why(error)}')}", file=sys.stderr)


def _sentence(source: str, error: Exception) -> str:
    """Say of which picture an error is, and what helps where memory is short."""
    short = isinstance(error, MemoryError | torch.OutOfMemoryError)
    short = short or (isinstance(error, RuntimeError) and "you tried to allocate" in str(error))
    if short:
        return (
            f"{source}: there is not enough memory ({why(error)}): give batch=1, or a smaller "
            "inference.max_size or inference.tile"
        )
    return f"{source}: {error if isinstance(error, UserError) else why(error)}"


def _video(frame: Picture | _Seen) -> str:
    return frame.name.rpartition("/")[0]
