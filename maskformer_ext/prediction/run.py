"""The work of `predict`: images in, files out, and what fails is named without losing the rest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn

from maskformer_ext.checkpoints.runs import resolve_checkpoint
from maskformer_ext.config import InferenceConfig
from maskformer_ext.config.load import override_checkpoint
from maskformer_ext.config.tasks import choose_task, never_learnt
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.files import make_folder
from maskformer_ext.inference import Instances, PanopticResult, SemanticResult, segment
from maskformer_ext.inference.programs.loading import load_for_inference
from maskformer_ext.media.images import to_tensor, write_png
from maskformer_ext.media.videos import frame_rate, is_film, write_film
from maskformer_ext.pictures.queries import QuerySummary, draw_queries, query_masks
from maskformer_ext.prediction.input_images import read_images
from maskformer_ext.prediction.options import PredictionOptions
from maskformer_ext.prediction.output_folder import note_settings
from maskformer_ext.prediction.prepared_images import Preparation, PreparedImage
from maskformer_ext.prediction.result_files import description_file, write_prediction

_Result: TypeAlias = SemanticResult | PanopticResult | Instances


def start_run(
    checkpoint: str,
    output: Path,
    options: PredictionOptions,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    runtime: str | None = None,
) -> PredictionRun:
    """Load a checkpoint, make the folder of the results and note in it what they are made with.

    Args:
        checkpoint: whatever `load_for_inference` reads.
        output: the folder of the results.
        options: of the run; without a task it is the one that the model was trained for.
        overrides: ``key=value`` for the configuration of the checkpoint.
        device: where the model goes; None: the CPU, or where the runtime of a program likes best.
        runtime: of an exported program.

    Returns:
        The run; it is called with the files.

    Raises:
        UserError: if the checkpoint cannot be read, its model cannot do what is asked for, or the folder holds
            something else.
    """
    model, config, info = load_for_inference(checkpoint, device, runtime=runtime)
    config = override_checkpoint(config, overrides)
    architecture, things = config.model.architecture, bool(info.thing_classes)
    trained = config.data.task
    task = choose_task(options.task, architecture, things, tta=config.inference.tta, trained=trained)
    if options.task and (doubt := never_learnt(trained, [task], things)):
        print(f"warning: {doubt}", file=sys.stderr)
    if options.queries and architecture != "maskformer":
        raise UserError(f"queries=true: a {architecture} model has no queries")
    make_folder(output)
    settings = {
        "checkpoint": printable(resolve_checkpoint(checkpoint).resolve()),
        "task": task,
        "min_score": options.min_score,
        "names": options.names,
        "overlay_size": options.overlay_size,
        "inference": asdict(config.inference),
    }
    note_settings(output, settings, resume=options.resume)
    return PredictionRun(model, info, config.inference, task, output, options)


@dataclass
class Counts:
    """What became of the images.

    Attributes:
        images: how many there were.
        failed: those of them that could not be read, segmented or written.
        skipped: those that were done already.
        lost: films and summaries that could not be written.
    """

    images: int = 0
    failed: int = 0
    skipped: int = 0
    lost: int = 0


class PredictionRun:
    """Segment images in batches and write what is found; a damaged one is named, the others are done.

    Args:
        model: the network.
        info: its classes.
        settings: of inference.
        task: what to do.
        output: the folder of the results.
        options: of the run.

    Attributes:
        counts: of what was done.
    """

    def __init__(
        self,
        model: nn.Module,
        info: DatasetInfo,
        settings: InferenceConfig,
        task: str,
        output: Path,
        options: PredictionOptions,
    ) -> None:
        self.model, self.info, self.task, self.output, self.options = model, info, task, output, options
        self.counts = Counts()
        self._prepare = Preparation(settings, options.overlay_size, queries=options.queries)
        self._summary = QuerySummary(info) if options.queries else None
        self._frames: dict[str, int] = {}  # of each video, how many
        self._new_frames: set[str] = set()  # the videos of which some were segmented in this run

    def __call__(self, files: list[tuple[Path, str]], progress: Callable[[int, int], None]) -> None:
        """Segment and write the files; ``progress(done, total)`` counts them."""

        def is_done(name: str) -> bool:
            return self.options.resume and description_file(self.output, name).is_file()

        waiting: list[PreparedImage] = []
        for image in read_images(files, is_done):
            self.counts.images += 1
            number = image.number
            if image.is_frame:
                self._frames[image.video] = self._frames.get(image.video, 0) + 1
            if image.error is not None:
                self._fail(image.error)
            elif image.rgb is None:
                self.counts.skipped += 1
            else:
                try:
                    waiting.append(self._prepare(image))
                except Exception as error:  # such as too little memory
                    self._fail(_sentence(image.source, error))
            del image  # a large one need not be kept
            if len(waiting) == self.options.batch:
                self._segment(waiting, len(files))
                waiting = []
            progress(number, len(files))
        self._segment(waiting, len(files))

    def _segment(self, images: list[PreparedImage], files: int) -> None:
        """Segment images together; where that fails each one alone, as the others may be fine."""
        try:
            results = self._results(images)
        except Exception as error:
            if len(images) == 1:
                self._fail(_sentence(images[0].image.source, error))
                return
            results = None
        if results is None:  # outside of the handler, which would keep the memory of what failed
            for image in images:
                self._segment([image], files)
            return
        while images:
            self._write(images.pop(0), results.pop(0), files)  # popped, so that one result is alive at a time

    def _results(self, images: list[PreparedImage]) -> list[_Result]:
        results: list[_Result] = []
        for size, group in groupby(images, lambda image: image.size):
            results += segment(
                self.model,
                [image.pixels for image in group],
                task=self.task,
                size=size,
                thing_classes=self.info.thing_classes or None,
                config=self._prepare.settings,
                batch_size=self.options.batch,
            )
        return results

    def _write(self, prepared: PreparedImage, result: _Result, files: int) -> None:
        image, options = prepared.image, self.options
        try:
            found = write_prediction(
                result,
                prepared.ground,
                self.output,
                image.name,
                source=image.source,
                task=self.task,
                info=self.info,
                names=options.names,
                min_score=options.min_score,
                overlay_size=options.overlay_size,
                legend=not image.is_frame,  # frames of a video keep one size
            )
            if image.is_frame:
                self._new_frames.add(image.video)
            if self._summary is not None:
                self._draw_queries(self._summary, prepared)
            print(printable(f"{image.number}/{files}  {image.source}: {found}"))
        except Exception as error:
            self._fail(_sentence(image.source, error))

    def finish(self, files: list[tuple[Path, str]]) -> None:
        """Write what several images make together: the films of the overlays, and ``queries.png``."""
        if self.options.film:
            self._write_films(files)
        if self._summary is not None and self._summary.images:
            self._write_summary(self._summary)

    def _write_films(self, files: list[tuple[Path, str]]) -> None:
        """Join the overlays of each video into ``overlays/NAME.mp4``, where there are new ones or no film yet."""
        for path, name in files:
            overlays, film = self.output / "overlays" / name, self.output / "overlays" / f"{name}.mp4"
            numbers = range(self._frames.get(name, 0) if is_film(path) else 0)
            frames = [file for number in numbers if (file := overlays / f"{number:06d}.png").is_file()]
            if not frames or (film.is_file() and name not in self._new_frames):
                continue
            try:
                write_film(frames, film, frame_rate(path))
                print(printable(film))
            except Exception as error:
                self._lose(film, error)

    def _write_summary(self, summary: QuerySummary) -> None:
        file = self.output / "queries.png"
        try:
            write_png(summary.draw(), file)
        except Exception as error:
            self._lose(file, error)

    def _draw_queries(self, summary: QuerySummary, prepared: PreparedImage) -> None:
        assert prepared.whole is not None
        classes, masks = query_masks(self.model, prepared.pixels, self._prepare.settings)
        summary.add(classes, masks)
        drawn = draw_queries(to_tensor(prepared.whole), classes, masks, self.info)
        write_png(drawn, self.output / "queries" / f"{prepared.image.name}.png")

    def _fail(self, message: str) -> None:
        self.counts.failed += 1
        print(f"error: {printable(message)}", file=sys.stderr)

    def _lose(self, file: Path, error: Exception) -> None:
        self.counts.lost += 1
        text = str(error)
        print(f"error: {printable(text if str(file) in text else f'{file}: {why(error)}')}", file=sys.stderr)


def _sentence(source: str, error: Exception) -> str:
    """Return of which image an error is, and what helps where memory is short."""
    short = isinstance(error, MemoryError | torch.OutOfMemoryError)
    short = short or (isinstance(error, RuntimeError) and "you tried to allocate" in str(error))
    if short:
        return (
            f"{source}: there is not enough memory ({why(error)}): give batch=1, or a smaller "
            "inference.max_size or inference.tile"
        )
    return f"{source}: {error if isinstance(error, UserError) else why(error)}"
