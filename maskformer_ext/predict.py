"""Segment images and videos: ``python -m maskformer_ext.predict checkpoint=RUN input=PATH output=FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from maskformer_ext.cli.command import (
    choose_device,
    override_checkpoint,
    required,
    run_command,
    split_arguments,
    with_progress,
)
from maskformer_ext.cli.early import check_weights
from maskformer_ext.config import Config
from maskformer_ext.config.tasks import TASKS, default_task, never_learnt
from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import make_folder

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
  task=NAME           semantic, instance or panoptic; by default what the model was trained for (data.task of its run)
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
    most = values["max_pixels"]
    max_pixels = None if most is None else _whole_number("max_pixels", most, 1, "a number of pixels")

    from maskformer_ext.media.decoding import limit_pixels
    from maskformer_ext.prediction.listing import list_files

    if values["task"] not in (None, *TASKS):
        raise UserError(f"task must be one of {', '.join(TASKS)}, got {values['task']!r}")
    if output.exists() and not output.is_dir():
        raise UserError(f"the folder {output} cannot be made: a file has this name")
    limit_pixels(max_pixels)
    listing = list_files(source, output)
    check_weights("checkpoint", checkpoint)
    override_checkpoint(Config(), overrides)  # for its errors, before torch is imported
    device = choose_device(values["device"])

    from maskformer_ext.checkpoints.models import load_checkpoint
    from maskformer_ext.checkpoints.runs import resolve_checkpoint
    from maskformer_ext.pictures.queries import QuerySummary
    from maskformer_ext.prediction.output_folder import note_settings
    from maskformer_ext.prediction.run import PredictionRun

    model, config, info = load_checkpoint(checkpoint, device)
    config = override_checkpoint(config, overrides)
    task = choose_task(
        values["task"],
        config.model.architecture,
        bool(info.thing_classes),
        tta=config.inference.tta,
        trained=config.data.task,
    )
    if queries and config.model.architecture != "maskformer":
        raise UserError(f"queries=true: a {config.model.architecture} model has no queries")
    make_folder(output)
    settings = {
        "checkpoint": printable(resolve_checkpoint(checkpoint).resolve()),
        "task": task,
        "min_score": min_score,
        "names": names,
        "overlay_size": overlay_size,
        "inference": asdict(config.inference),
    }
    note_settings(output, settings, resume=resume)
    if note := listing.note():
        print(note)
    files = listing.files
    run = PredictionRun(
        model,
        info,
        config.inference,
        task,
        output,
        names=names,
        min_score=min_score,
        overlay_size=overlay_size,
        batch=batch,
        resume=resume,
        summary=QuerySummary(info) if queries else None,
    )
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


def choose_task(
    task: str | None, architecture: str, knows_things: bool, *, tta: bool = False, trained: str = "semantic"
) -> str:
    """Return the task to do: the named one, or what the model was trained for.

    A named task that the training never taught is done, with a warning.

    Args:
        task: as the user gave it; None: by default.
        architecture: ``model.architecture``.
        knows_things: whether some of the classes are things.
        tta: whether test-time augmentation is on.
        trained: ``data.task`` of the training run.

    Raises:
        UserError: if the task does not exist or the model cannot do it.
    """
    if task is None:
        return default_task(trained, architecture, knows_things, tta=tta)
    if task not in TASKS:
        raise UserError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    if task != "semantic" and architecture != "maskformer":
        raise UserError(f"task={task}: a {architecture} model can do semantic only")
    if task != "semantic" and tta:
        raise UserError(f"task={task}: test-time augmentation (inference.tta) is for semantic only")
    if doubt := never_learnt(trained, [task], knows_things):
        print(f"warning: {doubt}", file=sys.stderr)
    return task


if __name__ == "__main__":
    sys.exit(main())
