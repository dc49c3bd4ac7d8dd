"""The work of `predict`: pictures in, files out, and what fails is named without losing the rest."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from maskformer_ext.config import InferenceConfig
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.images import write_png
from maskformer_ext.inference import Instances, PanopticResult, SemanticResult, segment
from maskformer_ext.prediction_files import description_file, write_prediction
from maskformer_ext.query_pictures import QuerySummary, draw_queries, query_masks
from maskformer_ext.sources import Picture, read_pictures
from maskformer_ext.videos import frame_rate, is_film, write_film


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

        waiting: list[Picture] = []
        for picture in read_pictures(files, is_done):
            self.total += 1
            if picture.is_frame:
                video = _video(picture)
                self.frames[video] = self.frames.get(video, 0) + 1
            if picture.error is not None:
                self._fail(picture.error)
            elif picture.pixels is None:
                self.skipped += 1
            else:
                waiting.append(picture)
            if len(waiting) == self.batch:
                self._segment(waiting, len(files))
                waiting = []
            progress(picture.number, len(files))
        self._segment(waiting, len(files))

    def _segment(self, pictures: list[Picture], files: int) -> None:
        """Segment pictures together; where that fails each one alone, as the others may be fine."""
        things, images = self.info.thing_classes or None, [picture.pixels for picture in pictures]
        try:
            results = segment(
                self.model, images, task=self.task, thing_classes=things, config=self.settings, batch_size=self.batch
            )
        except Exception as error:
            if len(pictures) == 1:
                self._fail(_sentence(pictures[0], error))
                return
            results = None
        if results is None:  # outside of the handler, which would keep the memory of what failed
            for picture in pictures:
                self._segment([picture], files)
            return
        while pictures:
            self._write(pictures.pop(0), results.pop(0), files)  # popped, so that one result is alive at a time

    def _write(self, picture: Picture, result: SemanticResult | PanopticResult | Instances, files: int) -> None:
        assert picture.pixels is not None
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
                self._draw_queries(picture.pixels, picture.name)
            print(printable(f"{picture.number}/{files}  {picture.source}: {found}"))
        except Exception as error:
            self._fail(_sentence(picture, error))

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

    def _draw_queries(self, pixels: Tensor, name: str) -> None:
        classes, masks = query_masks(self.model, pixels, self.settings)
        self.summary.add(classes, masks)
        drawn = draw_queries(pixels, classes, masks, self.info)
        write_png(drawn, self.output / "queries" / f"{name}.png")

    def _fail(self, message: str) -> None:
        self.failed += 1
        print(f"error: {printable(message)}", file=sys.stderr)

    def _lose(self, file: Path, error: Exception) -> None:
        self.lost += 1
        text = str(error)
        print(f"error: {printable(text if str(file) in text else f'{file}: {why(error)}')}", file=sys.stderr)


def _sentence(picture: Picture, error: Exception) -> str:
    """Say of which picture an error is, and what helps where memory is short."""
    short = isinstance(error, MemoryError | torch.OutOfMemoryError)
    short = short or (isinstance(error, RuntimeError) and "you tried to allocate" in str(error))
    if short:
        return (
            f"{picture.source}: there is not enough memory ({why(error)}): give batch=1, or a smaller "
            "inference.max_size or inference.tile"
        )
    return f"{picture.source}: {error if isinstance(error, UserError) else why(error)}"


def _video(frame: Picture) -> str:
    return frame.name.rpartition("/")[0]
