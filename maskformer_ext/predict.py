"""Segment images and videos: ``python -m maskformer_ext.predict checkpoint=RUN input=PATH output=FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from maskformer_ext.cli.arguments import boolean, choice, choose_device, number, required, split_arguments, whole_number
from maskformer_ext.cli.command import run_command, with_progress
from maskformer_ext.cli.early import check_weights
from maskformer_ext.config import Config
from maskformer_ext.config.load import override_checkpoint
from maskformer_ext.config.tasks import TASKS
from maskformer_ext.config.values import PROGRAM_ENDINGS
from maskformer_ext.errors import UserError, printable
from maskformer_ext.prediction.options import PredictionOptions

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
                      also weights of the original or of transformers' MaskFormer, or a hub id (docs/checkpoints.md),
                      or a .onnx or .pt2 file of export
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
  runtime=NAME        of a .onnx file: onnxruntime or openvino; by default the first that is installed

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
    "runtime": None,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 where images failed, 2 after a problem that the user can fix."""
    return run_command(_predict, _HELP, arguments)


def _predict(arguments: list[str]) -> int:
    values, overrides = split_arguments(arguments, _OWN)
    checkpoint = required(values, "checkpoint", "the output folder of a run or a checkpoint")
    source = required(values, "input", "an image, a video, a folder or a glob")
    output = Path(required(values, "output", "the folder for the results")).expanduser()
    options = PredictionOptions(
        task=None if values["task"] is None else choice(values, "task", TASKS),
        names=boolean(values, "names"),
        min_score=number(values, "min_score", 0, 1),
        overlay_size=whole_number(values, "overlay_size", "a number of pixels"),
        batch=whole_number(values, "batch", "a number of images", least=1),
        resume=boolean(values, "resume"),
        queries=boolean(values, "queries"),
        film=boolean(values, "film"),
    )
    most = values["max_pixels"]
    max_pixels = None if most is None else whole_number(values, "max_pixels", "a number of pixels", least=1)
    if output.exists() and not output.is_dir():
        raise UserError(f"the folder {output} cannot be made: a file has this name")

    from maskformer_ext.media.decoding import limit_pixels
    from maskformer_ext.prediction.input_files import list_files

    limit_pixels(max_pixels)
    listing = list_files(source, output)
    check_weights("checkpoint", checkpoint)
    override_checkpoint(Config(), overrides)  # for its errors, before torch is imported
    device = values["device"] if Path(checkpoint).suffix in PROGRAM_ENDINGS else choose_device(values)

    from maskformer_ext.prediction.run import start_run

    run = start_run(checkpoint, output, options, overrides=overrides, device=device, runtime=values["runtime"])
    if note := listing.note():
        print(note)
    with_progress("files", lambda progress: run(listing.files, progress))
    run.finish(listing.files)
    print(printable(output))
    if run.counts.skipped:
        print(f"{run.counts.skipped} were done already (resume=true)")
    if run.counts.failed:
        print(f"error: {run.counts.failed} of {run.counts.images} images failed", file=sys.stderr)
    return 1 if run.counts.failed or run.counts.lost else 0


if __name__ == "__main__":
    sys.exit(main())
