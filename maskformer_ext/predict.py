"""Segment images and videos: ``python -m maskformer_ext.predict checkpoint=RUN input=PATH output=FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskformer_ext.command import (
    choose_device,
    override_checkpoint,
    required,
    run_command,
    split_arguments,
    with_progress,
)
from maskformer_ext.config import InferenceConfig
from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.files import make_folder

if TYPE_CHECKING:
    from torch import Tensor

    from maskformer_ext.sources import Picture

_HELP = """usage: python -m maskformer_ext.predict checkpoint=RUN input=FILE|FOLDER|GLOB output=FOLDER [key=value ...]

Segment images and videos and write, below the output folder,

  overlays/NAME.png   colours and outlines over the image, names and a legend (small images are enlarged, those larger
                      than a screen are shrunk)
  overlays/NAME.mp4   the overlays of a video's frames as a film, without sound
  ids/NAME.png        semantic: the class id of each pixel (8 bits, 16 where there are more than 256 classes);
                      panoptic, instance: the segment id of each pixel, 16 bits, 0 = none
  json/NAME.json      for each segment id, category, score, area in pixels, box (x0, y0, x1, y1, half-open);
                      instances, which may overlap, also carry their mask as COCO run lengths

  checkpoint=PATH     output folder of a run (its newest checkpoint), a checkpoints/iter_* folder, or model.safetensors;
                      also weights of the original or of transformers' MaskFormer, or a hub id (docs/checkpoints.md)
  input=PATH          an image, a video, a folder (with the folders in it, linked ones too) or a quoted glob such as
                      'photos/*.jpg'; hidden files and what predict has written are passed over
  output=FOLDER       is made where it does not exist
  task=NAME           semantic, instance or panoptic; by default panoptic where the model knows things, else semantic
  names=true          write class names on the overlays
  overlay_size=2048   longer side of the overlays in pixels at most; 0: at least the size of the image
  max_pixels=N        read images of up to N pixels; by default 178956970, beyond which a file may be an attack
  min_score=0.5       instances below this score are left out of overlays and ids; the JSON has all
  queries=true        also draw each query's mask (queries/NAME.png), and in queries.png what each query stands for: its
                      average mask and its classes over all images
  film=true           join the overlays of a video's frames into a film
  batch=1             how many images of equal size go through the network at once
  resume=true         leave out what an interrupted run with the same checkpoint, task and options has done
  device=NAME         cpu, cuda, cuda:1 ...; by default a GPU where there is one

Every key of the configuration below inference can be changed too, for instance inference.tile=512 for large or crowded
images, or inference.object_mask_threshold=0.5; python -m maskformer_ext.train --help lists them.

Frame 7 of clip.mp4 is called clip/000007. Videos need PyAV (pip install 'maskformer-ext[video]'), animated GIF, WebP
and PNG do not.

An image that cannot be read, segmented or written is named, and the others are done; the exit status is then 1."""

_OWN = {
    "checkpoint": None,
    "input": None,
    "output": None,
    "task": None,
    "names": "true",
    "overlay_size": "2048",
    "max_pixels": None,
    "min_score": "0.5",
    "queries": "false",
    "film": "true",
    "batch": "1",
    "resume": "false",
    "device": None,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 where images failed, 2 after a problem that the user can fix."""
    return run_command(_predict, _HELP, arguments)


def _predict(arguments: list[str]) -> int:
    values, overrides = split_arguments(arguments, _OWN)
    checkpoint = required(values, "checkpoint", "the output folder of a run or a checkpoint")
    source = required(values, "input", "an image, a video, a folder or a glob")
    output = Path(required(values, "output", "the folder for the results")).expanduser()
    names, resume, queries, film = (_true_or_false(values, key) for key in ("names", "resume", "queries", "film"))
    batch = _whole_number("batch", values["batch"], 1, "a number of images")
    overlay_size = _whole_number("overlay_size", values["overlay_size"], 0, "a number of pixels")
    min_score = _score(values["min_score"])

    from maskformer_ext.decoding import limit_pixels
    from maskformer_ext.listing import list_files

    if values["max_pixels"] is not None:
        limit_pixels(_whole_number("max_pixels", values["max_pixels"], 1, "a number of pixels"))
    listing = list_files(source, output)
    device = choose_device(values["device"])

    from maskformer_ext.engine.state import load_checkpoint, resolve_checkpoint
    from maskformer_ext.output_folder import note_settings

    model, config, info = load_checkpoint(checkpoint, device)
    config = override_checkpoint(config, overrides)
    task = choose_task(values["task"], config.model.architecture, bool(info.thing_classes), tta=config.inference.tta)
    if queries and config.model.architecture != "maskformer":
        raise UserError(f"queries=true: a {config.model.architecture} model has no queries")
    make_folder(output)
    settings = {
        "checkpoint": printable(resolve_checkpoint(checkpoint).resolve()),
        "task": task,
        "min_score": min_score,
        "inference": asdict(config.inference),
    }
    note_settings(output, settings, resume=resume)
    if note := listing.note():
        print(note)
    summary = None
    if queries:
        from maskformer_ext.query_pictures import QuerySummary

        summary = QuerySummary(info)
    files = listing.files
    run = _Run(model, info, config.inference, task, output, names, min_score, overlay_size, batch, resume, summary)
    with_progress("files", lambda progress: run(files, progress))
    if film:
        run.write_films(files)
    run.write_summary()
    print(printable(output))
    if run.skipped:
        print(f"{run.skipped} were done already (resume=true)")
    if run.failed:
        print(f"error: {run.failed} of {run.total} images failed", file=sys.stderr)
    return 1 if run.failed or run.lost else 0


@dataclass
class _Run:
    """Segment pictures in batches and write what is found; a damaged one is named, the others are done."""

    model: Any
    info: Any
    settings: InferenceConfig
    task: str
    output: Path
    names: bool
    min_score: float
    overlay_size: int
    batch: int
    resume: bool
    summary: Any
    total: int = 0
    failed: int = 0
    lost: int = 0  # films and pictures of queries that could not be written
    skipped: int = 0
    frames: dict[str, int] = field(default_factory=dict)  # of each video: how many
    new_frames: set[str] = field(default_factory=set)  # the names of videos of which some were segmented in this run

    def __call__(self, files: list[tuple[Path, str]], progress: Callable[[int, int], None]) -> None:
        from maskformer_ext.prediction_files import description_file
        from maskformer_ext.sources import read_pictures

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
        from maskformer_ext.inference import segment

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

    def _write(self, picture: Picture, result: Any, files: int) -> None:
        from maskformer_ext.prediction_files import write_prediction

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
        from maskformer_ext.videos import frame_rate, is_film, write_film

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
        from maskformer_ext.images import write_png

        if self.summary is None or not self.summary.images:
            return
        file = self.output / "queries.png"
        try:
            write_png(self.summary.draw(), file)
        except Exception as error:
            self._lose(file, error)

    def _draw_queries(self, pixels: Tensor, name: str) -> None:
        from maskformer_ext.images import write_png
        from maskformer_ext.query_pictures import draw_queries, query_masks

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
    import torch

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


def _true_or_false(values: Mapping[str, str | None], key: str) -> bool:
    if values[key] not in ("true", "false"):
        raise UserError(f"{key} must be true or false, got {values[key]!r}")
    return values[key] == "true"


def _whole_number(key: str, text: str | None, least: int, what: str) -> int:
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) < least:
        raise UserError(f"{key} must be {what}, at least {least}, got {text!r}")
    return int(text)


def _score(text: str | None) -> float:
    try:
        score = float(str(text))
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise UserError(f"min_score must be a number from 0 to 1, got {text!r}")
    return score


def choose_task(task: str | None, architecture: str, knows_things: bool, *, tta: bool = False) -> str:
    """Return the task to do: the named one, or what the model is for.

    Raises:
        UserError: if the task does not exist or the model cannot do it.
    """
    from maskformer_ext.inference.prediction import TASKS

    if task is None:
        return "panoptic" if knows_things and architecture == "maskformer" and not tta else "semantic"
    if task not in TASKS:
        raise UserError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    if task != "semantic" and architecture != "maskformer":
        raise UserError(f"task={task}: a {architecture} model can do semantic only")
    if task != "semantic" and tta:
        raise UserError(f"task={task}: test-time augmentation (inference.tta) is for semantic only")
    return task


if __name__ == "__main__":
    sys.exit(main())
