"""Segment images and videos: ``maskformer-ext predict checkpoint=RUN input=PATH output=FOLDER``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.cli.arguments import boolean, choice, number, required, split_arguments, whole_number
from maskformer_ext.cli.command import run_command, with_progress
from maskformer_ext.cli.early import check_weights
from maskformer_ext.cli.processes import is_launched
from maskformer_ext.cli.shared_files import SharedFiles, choose_own_device, one_voice
from maskformer_ext.config import Config
from maskformer_ext.config.load import override_checkpoint
from maskformer_ext.config.tasks import TASKS
from maskformer_ext.config.values import PROGRAM_ENDINGS
from maskformer_ext.errors import UserError, printable
from maskformer_ext.media.addresses import STANDARD_INPUT, Address
from maskformer_ext.media.downloads import MOST_BYTES
from maskformer_ext.prediction.options import PredictionOptions, Reading
from maskformer_ext.prediction.report import Counts, summary, total

if TYPE_CHECKING:
    from maskformer_ext.prediction.input_files import Listing, Place
    from maskformer_ext.prediction.run import PredictionRun

_HELP = """usage: maskformer-ext predict checkpoint=RUN input=FILE|FOLDER|GLOB|URL|... output=FOLDER [key=value ...]

Segment images and videos and write, below the output folder,

  overlays/NAME.png   colours and outlines over the image, names and a legend (small images are enlarged, those larger
                      than a screen are shrunk)
  overlays/NAME.mp4   the overlays of a video's frames as a film, without sound
  ids/NAME.png        semantic: the class id of each pixel (8 bits, 16 where there are more than 256 classes);
                      panoptic, instance: the segment id of each pixel, 16 bits, 0 = none
  json/NAME.json      for each segment id, category, score, area in pixels, box (x0, y0, x1, y1, half-open);
                      instances, which may overlap, also carry their mask as COCO run lengths

Per image it prints the name, width x height, what was found, and the milliseconds of network and masks. The last line
is the output folder.

  checkpoint=PATH     output folder of a run (its newest checkpoint), a checkpoints/iter_* folder, or model.safetensors;
                      also weights of the original or of transformers' MaskFormer, or a hub id (docs/checkpoints.md),
                      or a .onnx or .pt2 file of export
  input=...           PATH       an image, a video, a folder (with the folders in it, linked ones too) or a quoted glob
                                 such as 'photos/*.jpg'; hidden files and what predict has written are passed over
                      URL        an image or video on the web (http, https), or a stream: rtsp, rtmp, rtp, udp, tcp,
                                 srt, and over http playlists and motion JPEG
                      webcam:0   a camera, also as /dev/video0
                      -          the bytes of one image on standard input
                      @LIST      a text file with one of these per line; @- reads the list from standard input
  output=FOLDER       is made where it does not exist
  task=NAME           semantic, instance or panoptic; by default what the model was trained for (data.task of its run)
  names=true          write class names on the overlays
  overlay_size=2048   longer side of the overlays in pixels at most; 0: at least the size of the image
  min_score=0.5       instances below this score are left out of overlays and ids; the JSON has all
  queries=true        also draw each query's mask (queries/NAME.png), and in queries.png what each query stands for: its
                      average mask and its classes over all images
  film=true           join the overlays of a video's frames into a film
  stride=5            take every fifth frame of a video or stream; frames keep their own numbers
  max_frames=100      take so many frames of each video or stream at most; Ctrl-C stops a stream too
  max_pixels=N        read images of up to N pixels; by default 178956970, beyond which a file may be an attack
  max_bytes=N         take up to N bytes from a URL or from standard input; by default 1000000000
  batch=1             how many images of equal size go through the network at once
  resume=true         leave out what an interrupted run with the same checkpoint, task and options has done
  quiet=true          print the output folder and errors only
  device=NAME         cpu, cuda, cuda:1 ...; by default a GPU where there is one
  runtime=NAME        of a .onnx file: onnxruntime or openvino; by default the first that is installed

Every key of the configuration below inference can be changed too, for instance inference.tile=512 for large or crowded
images, or inference.object_mask_threshold=0.5; maskformer-ext train --help lists them.

Frame 7 of clip.mp4 is called clip/000007. Videos, streams and cameras need PyAV (pip install 'maskformer-ext[video]'),
animated GIF, WebP, PNG and AVIF do not.

torchrun --nproc-per-node 2 -m maskformer_ext.predict ... shares the files out over processes; a video is one of them.

An image that cannot be read, segmented or written is named, and the others are done; the exit status is then 1."""

_OWN = {
    "checkpoint": None,
    "input": None,
    "output": None,
    "task": None,
    "names": "true",
    "overlay_size": "2048",
    "min_score": "0.5",
    "queries": "false",
    "film": "true",
    "stride": "1",
    "max_frames": None,
    "max_pixels": None,
    "max_bytes": str(MOST_BYTES),
    "batch": "1",
    "resume": "false",
    "quiet": "false",
    "device": None,
    "runtime": None,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 where images failed, 2 after a problem that the user can fix, 130 after Ctrl-C."""
    return run_command(_predict, _HELP, arguments)


def _predict(arguments: list[str]) -> int:
    with one_voice():
        run, listing, shared = _start(arguments)
    is_first, options = shared.rank == 0, run.options
    if is_first and not options.quiet and (note := listing.note()):
        print(note)

    def work(progress: Callable[[int, int | None], None]) -> None:
        run(listing.files, progress, shared.take(len(listing.files)))

    with_progress("images", work, rate=True, shown=shared.world == 1 and not options.quiet)
    if run.interrupted and shared.world > 1:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # torchrun sends another one, after that of the terminal
    run.write_films()
    left_over = run.interrupted and not (run.is_live and len(listing.files) == 1)
    _, *others = shared.gather({"counts": run.counts.to_dict(), "queries": run.queries_so_far()})
    counts = run.counts
    if is_first:
        run.write_queries([part["queries"] for part in others])
        counts = total([run.counts.to_dict(), *(part["counts"] for part in others)])
        _tell(run, counts, hint=None if not left_over else _how_to_go_on(listing))
    shared.leave()
    if left_over:
        return 130
    return int(is_first and bool(counts.failed or counts.lost))


def _tell(run: PredictionRun, counts: Counts, *, hint: str | None) -> None:
    """Print what came of it all."""
    if not run.options.quiet:
        print(summary(counts))
        if counts.done or counts.skipped:
            print(f"the pictures are in {printable(run.output / 'overlays')}")
    print(printable(run.output), flush=True)
    if counts.failed:
        print(f"error: {counts.failed} of {counts.images} images failed", file=sys.stderr)
    if hint is not None:
        print(f"error: interrupted{hint}", file=sys.stderr)


def _how_to_go_on(listing: Listing) -> str:
    changing = any(_is_new_each_time(place) for place, _ in listing.files)
    return "" if changing else ": the same command with resume=true does the rest"


def _start(arguments: list[str]) -> tuple[PredictionRun, Listing, SharedFiles]:
    """Read the arguments, list the files, load the model and make the output folder."""
    values, overrides = split_arguments(arguments, _OWN)
    checkpoint = required(values, "checkpoint", "the output folder of a run or a checkpoint")
    source = required(values, "input", "an image, a video, a folder, a glob, an address or - for standard input")
    output = Path(required(values, "output", "the folder for the results")).expanduser()
    options = PredictionOptions(
        task=None if values["task"] is None else choice(values, "task", TASKS),
        names=boolean(values, "names"),
        min_score=number(values, "min_score", 0, 1),
        overlay_size=whole_number(values, "overlay_size", "a number of pixels"),
        batch=whole_number(values, "batch", "a number of images", least=1),
        queries=boolean(values, "queries"),
        film=boolean(values, "film"),
        quiet=boolean(values, "quiet"),
        reading=Reading(
            stride=whole_number(values, "stride", "a number of frames", least=1),
            max_frames=_most(values, "max_frames", "a number of frames"),
            max_bytes=whole_number(values, "max_bytes", "a number of bytes", least=1),
            resume=boolean(values, "resume"),
        ),
    )
    max_pixels = _most(values, "max_pixels", "a number of pixels")
    if output.exists() and not output.is_dir():
        raise UserError(f"the folder {output} cannot be made: a file has this name")

    from maskformer_ext.media.decoding import limit_pixels
    from maskformer_ext.prediction.input_files import list_files

    limit_pixels(max_pixels)
    if source in ("-", "@-"):
        _check_standard_input(source)
    listing = list_files(source, output)
    _check_resume(listing, options.reading)
    check_weights("checkpoint", checkpoint)
    override_checkpoint(Config(), overrides)  # for its errors, before torch is imported
    is_program = Path(checkpoint).suffix in PROGRAM_ENDINGS
    device = values["device"] if is_program else choose_own_device(values)
    shared = SharedFiles()
    shared.agree([name for _, name in listing.files])

    from maskformer_ext.inference.allocator import keep_freed_memory
    from maskformer_ext.prediction.run import start_run

    keep_freed_memory()
    run = start_run(
        checkpoint,
        output,
        options,
        overrides=overrides,
        device=device,
        runtime=values["runtime"],
        is_first=shared.rank == 0,
    )
    return run, listing, shared


def _check_standard_input(source: str) -> None:
    what = "an image" if source == "-" else "a list"
    if is_launched():
        raise UserError(f"input={source}: several processes cannot share standard input: give a file")
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError(f"input={source}: standard input is a terminal: pipe {what} into it, as in predict ... < FILE")


def _most(values: Mapping[str, str | None], key: str, what: str) -> int | None:
    return None if values[key] is None else whole_number(values, key, what, least=1)


def _check_resume(listing: Listing, reading: Reading) -> None:
    if reading.resume and (changing := [place for place, _ in listing.files if _is_new_each_time(place)]):
        raise UserError(f"resume=true: {changing[0]} brings other images each time: give resume=false")


def _is_new_each_time(place: Place) -> bool:
    return isinstance(place, Address) and (place.is_endless or place.kind == STANDARD_INPUT)


if __name__ == "__main__":
    sys.exit(main())
