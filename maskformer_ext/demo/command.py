"""Try a model in the browser: ``maskformer-ext demo checkpoint=RUN``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskformer_ext.cli.arguments import boolean, choice, choose_device, required, split_arguments, whole_number
from maskformer_ext.cli.command import run_command
from maskformer_ext.cli.early import check_weights
from maskformer_ext.config import Config
from maskformer_ext.config.load import override_checkpoint
from maskformer_ext.config.tasks import TASKS
from maskformer_ext.config.values import PROGRAM_ENDINGS
from maskformer_ext.errors import UserError

_HELP = """usage: maskformer-ext demo checkpoint=RUN [key=value ...]

Serve a page on this machine. Drop a picture or a video on it, choose the task, move the thresholds: the masks follow at
once, because the network runs once per picture and only the reduction runs again. Hover for class, score and area; look
at the mask of each query; save the overlay, the map of ids and COCO JSON.

  checkpoint=PATH     output folder of a run, a checkpoint, model.safetensors, weights of the original or of
                      transformers' MaskFormer, a hub id such as facebook/maskformer-swin-tiny-ade, or a file of export
  task=NAME           semantic, instance or panoptic, with which the page begins; by default what the model was trained
                      for
  samples=FOLDER      offer the first 12 pictures of a folder; by default some of the validation set of the run, where
                      it is on this machine; samples=none offers none
  port=7860           the next free one where it is taken; 0: any
  browser=true        open the page in the browser
  max_upload_mb=200   largest file, in megabytes
  max_pixels=N        pictures and frames of up to N pixels; by default 100000000
  max_frames=100      frames of a video that are looked at, from its beginning
  device=NAME         cpu, cuda, cuda:1 ...; by default a GPU where there is one

Every key of the configuration below inference can be changed too, for instance inference.tile=512. Test-time
augmentation is left out.

Only this machine can open the page: the server binds to 127.0.0.1. To see the page of a server elsewhere, forward the
port: ssh -L 7860:127.0.0.1:7860 SERVER. Files that were dropped are deleted when the server ends (Ctrl-C)."""

_OWN = {
    "checkpoint": None,
    "task": None,
    "samples": None,
    "port": "7860",
    "host": None,
    "browser": "false",
    "max_upload_mb": "200",
    "max_pixels": "100000000",
    "max_frames": "100",
    "device": None,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0 when it was ended, 2 after a problem that the user can fix."""
    return run_command(_demo, _HELP, arguments)


def _demo(arguments: list[str]) -> int:
    values, overrides = split_arguments(arguments, _OWN, sections=("inference",))
    checkpoint = required(values, "checkpoint", "the output folder of a run, a checkpoint or a hub id")
    task = None if values["task"] is None else choice(values, "task", TASKS)
    port = whole_number(values, "port", "a number from 0 to 65535")
    if port > 65535:
        raise UserError(f"port must be a number from 0 to 65535, got {port}")
    if values["host"] not in (None, "127.0.0.1", "localhost"):
        raise UserError(
            f"host={values['host']}: the page is for this machine only (127.0.0.1); to see it from elsewhere, forward "
            f"the port: ssh -L {port}:127.0.0.1:{port} SERVER"
        )
    browser = boolean(values, "browser")
    upload_mb = whole_number(values, "max_upload_mb", "a number of megabytes", least=1)
    frames = whole_number(values, "max_frames", "a number of frames", least=1)
    max_pixels = whole_number(values, "max_pixels", "a number of pixels", least=1)
    check_weights("checkpoint", checkpoint)
    override_checkpoint(Config(), overrides)  # for its errors, before torch is imported

    from maskformer_ext.media.decoding import limit_pixels

    limit_pixels(max_pixels)
    device = values["device"] if Path(checkpoint).suffix.lower() in PROGRAM_ENDINGS else choose_device(values)

    from maskformer_ext.demo.model import Limits, load_demo_model
    from maskformer_ext.demo.routes import Routes
    from maskformer_ext.demo.samples import Samples, samples_of_data, samples_of_folder
    from maskformer_ext.demo.server import DemoServer

    folder = values["samples"]
    given = (
        samples_of_folder(Path(folder).expanduser()) if folder and folder != "none" else Samples([], lambda _: Path())
    )
    model = load_demo_model(checkpoint, task=task, overrides=overrides, device=device)

    def find_samples() -> Samples:
        return given if folder else samples_of_data(model.config.data)

    routes = Routes(model, Limits(upload_mb, frames), find_samples)
    try:
        return _serve(DemoServer(routes, port), port, browser=browser)
    finally:
        routes.close()


def _serve(server: Any, asked: int, *, browser: bool) -> int:
    """Answer until the user has had enough."""
    taken = f"port {asked} is taken; " if asked not in (0, server.port) else ""
    facts = f"{server.routes.model.name} ({server.routes.model.device})"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the files are deleted then too
    print(f"{taken}{server.address} shows {facts}; Ctrl-C ends it", flush=True)
    if browser:
        import webbrowser

        if not webbrowser.open(server.address):
            print("no browser was found: open the address in one", file=sys.stderr)
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
