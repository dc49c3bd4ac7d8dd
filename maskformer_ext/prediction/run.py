"""The work of `predict`: images in, files out, and what fails is named without losing the rest."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

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
from maskformer_ext.inference.queries import query_masks
from maskformer_ext.inference.results.saving import description_file
from maskformer_ext.media.images import to_tensor, write_png
from maskformer_ext.pictures.queries import QuerySummary, draw_queries
from maskformer_ext.prediction.films import Films
from maskformer_ext.prediction.input_files import Place
from maskformer_ext.prediction.input_images import InputImage, read_images
from maskformer_ext.prediction.options import PredictionOptions
from maskformer_ext.prediction.output_folder import note_settings
from maskformer_ext.prediction.prepared_images import Preparation, PreparedImage
from maskformer_ext.prediction.report import Counts, Report, Steps
from maskformer_ext.prediction.result_files import write_prediction

_Result: TypeAlias = SemanticResult | PanopticResult | Instances


def start_run(
    checkpoint: str,
    output: Path,
    options: PredictionOptions,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    runtime: str | None = None,
    is_first: bool = True,
) -> PredictionRun:
    """Load a checkpoint, make the folder of the results and note in it what they are made with.

    Args:
        checkpoint: whatever `load_for_inference` reads.
        output: the folder of the results.
        options: of the run; without a task it is the one that the model was trained for.
        overrides: ``key=value`` for the configuration of the checkpoint.
        device: where the model goes; None: the CPU, or where the runtime of a program likes best.
        runtime: of an exported program.
        is_first: of several processes that share the work: the first one writes the settings, and warns.

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
    if is_first and options.task and (doubt := never_learnt(trained, [task], things)):
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
    note_settings(output, settings, resume=options.reading.resume, write=is_first)
    return PredictionRun(model, info, config.inference, task, output, options)


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
        interrupted: whether the user stopped the work.
        is_live: whether the last image came from a camera or a stream, which has no other end than that.
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
        self.interrupted, self.is_live = False, False
        self._prepare = Preparation(settings, options.overlay_size, queries=options.queries)
        self._summary = QuerySummary(info) if options.queries else None
        self._films = Films(output / "overlays")
        self._report = Report(0, quiet=options.quiet)

    @property
    def counts(self) -> Counts:
        """What was done."""
        return self._report.counts

    def __call__(
        self,
        files: Sequence[tuple[Place, str]],
        progress: Callable[[int, int | None], None],
        order: Iterable[int] | None = None,
    ) -> None:
        """Segment and write the files; a first Ctrl-C ends the work with all results whole.

        Args:
            files: as `list_files` finds them.
            progress: gets the number of images that are done, and of all; None where that is not known.
            order: which of the files are read, by their index; None: all.
        """
        self._report = Report(len(files), quiet=self.options.quiet)
        steps, start = Steps(len(files), progress), time.perf_counter()
        waiting: list[PreparedImage] = []
        video, self.is_live = "", False
        try:
            with closing(read_images(files, self._is_done, self.options.reading, order)) as images:
                for image in images:
                    video, self.is_live = image.video, image.is_live
                    waiting += self._prepared(image)
                    image = replace(image, rgb=None)  # a large one need not be kept
                    if len(waiting) == self.options.batch:
                        self._segment(waiting)
                        waiting = []
                    steps.take(image.number, image.siblings)
            self._segment(waiting)
        except KeyboardInterrupt:
            self.interrupted = True
            self._films.interrupt(video)
        self.counts.seconds = time.perf_counter() - start
        self.counts.dropped = self._films.dropped(self.options.reading.stride)

    def _is_done(self, name: str) -> bool:
        return self.options.reading.resume and description_file(self.output, name).is_file()

    def _prepared(self, image: InputImage) -> list[PreparedImage]:
        """Count an image, and return it for the network; nothing where it is done already or fails."""
        self.counts.images += 1
        if image.error is not None:
            self._report.fail(image.error)
            return []
        if image.is_frame:
            self._films.read(image)
        if image.rgb is None:
            self.counts.skipped += 1
            if image.is_frame:
                self._films.drawn(image, is_new=False)
            return []
        try:
            return [self._prepare(image)]
        except Exception as error:  # such as too little memory
            self._report.fail(_sentence(image.source, error))
            return []

    def _segment(self, images: list[PreparedImage]) -> None:
        """Segment images together; where that fails each one alone, as the others may be fine."""
        try:
            results = self._results(images)
        except Exception as error:
            if len(images) == 1:
                self._report.fail(_sentence(images[0].image.source, error))
                return
            results = None
        if results is None:  # outside of the handler, which would keep the memory of what failed
            for image in images:
                self._segment([image])
            return
        while images:
            self._write(images.pop(0), *results.pop(0))  # popped, so that one result is alive at a time

    def _results(self, images: list[PreparedImage]) -> list[tuple[_Result, float]]:
        """Return the result of each image, and how many milliseconds it took."""
        results: list[tuple[_Result, float]] = []
        for size, group in groupby(images, lambda image: image.size):
            pixels = [image.pixels for image in group]
            start = time.perf_counter()
            found = segment(
                self.model,
                pixels,
                task=self.task,
                size=size,
                thing_classes=self.info.thing_classes or None,
                config=self._prepare.settings,
                batch_size=self.options.batch,
            )
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            milliseconds = 1000 * (time.perf_counter() - start) / len(pixels)
            results += [(result, milliseconds) for result in found]
        return results

    def _write(self, prepared: PreparedImage, result: _Result, milliseconds: float) -> None:
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
                self._films.drawn(image, is_new=True)
            if self._summary is not None:
                self._draw_queries(self._summary, prepared)
            self._report.done(image.number, image.shown, prepared.size, found, milliseconds)
        except Exception as error:
            self._report.fail(_sentence(image.source, error))

    def write_films(self) -> None:
        """Join the overlays of each video into a film, where that is wanted."""
        if self.options.film:
            self._films.write(self._report.say, self._report.lose)

    def queries_so_far(self) -> dict[str, Any] | None:
        """Return what the queries stood for in the images of this process, as JSON takes it; None if nobody asks."""
        return None if self._summary is None else self._summary.state()

    def write_queries(self, others: Sequence[dict[str, Any]] = ()) -> None:
        """Write ``queries.png``, where it is wanted.

        Args:
            others: what other processes have seen, as `queries_so_far` returns it.
        """
        if self._summary is None:
            return
        for state in others:
            self._summary.merge(state)
        file = self.output / "queries.png"
        try:
            if self._summary.images:
                write_png(self._summary.draw(), file)
        except Exception as error:
            self._report.lose(file, error)

    def _draw_queries(self, summary: QuerySummary, prepared: PreparedImage) -> None:
        assert prepared.whole is not None
        classes, masks = query_masks(self.model, prepared.pixels, self._prepare.settings)
        summary.add(classes, masks)
        drawn = draw_queries(to_tensor(prepared.whole), classes, masks, self.info)
        write_png(drawn, self.output / "queries" / f"{prepared.image.name}.png")


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
