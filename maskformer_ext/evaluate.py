"""Score a checkpoint: ``maskformer-ext evaluate checkpoint=RUN key=value ...``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from maskformer_ext.cli.arguments import choice, new_file, required, split_arguments, whole_number
from maskformer_ext.cli.command import run_command, with_progress
from maskformer_ext.cli.early import check_data_root, check_weights
from maskformer_ext.cli.processes import is_launched, join_processes
from maskformer_ext.config import Config
from maskformer_ext.config.load import override_checkpoint
from maskformer_ext.config.values import PROGRAM_ENDINGS
from maskformer_ext.errors import UserError
from maskformer_ext.files import write_json

_HELP = """usage: maskformer-ext evaluate checkpoint=RUN [key=value ...]

Score a checkpoint on its data set and write the scores as JSON.

  checkpoint=PATH   output folder of a run (its newest checkpoint), a checkpoints/iter_* folder, model.safetensors, or a
                    .onnx or .pt2 file of export
  split=val         val or train
  limit=N           the first N images only; all by default
  submission=FOLDER also write the results as a benchmark takes them, in the format that format= names:
  format=NAME       ade20k (PNGs, class + 1), cityscapes or mapillary_vistas (PNGs of label ids), coco_panoptic or
                    ade20k_panoptic (JSON and PNGs), coco_instance (JSON)
  output=FILE       where the JSON goes; by default evaluation.json in the output folder of the run
  device=NAME       cpu, cuda, cuda:1 ...; by default a GPU where there is one
  runtime=NAME      of a .onnx file: onnxruntime or openvino; by default the first that is installed

Several GPUs share the images: torchrun --nproc-per-node 4 -m maskformer_ext.evaluate checkpoint=RUN

Every key of the configuration below data and inference can be changed too, for instance data.root=FOLDER,
inference.tile=512 or inference.tasks=[panoptic]; maskformer-ext train --help lists them."""

_OWN = {
    "checkpoint": None,
    "split": "val",
    "limit": None,
    "submission": None,
    "format": None,
    "output": None,
    "device": None,
    "runtime": None,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 2 after a problem that the user can fix."""
    return run_command(_evaluate, _HELP, arguments)


def _evaluate(arguments: list[str]) -> int:
    values, overrides = split_arguments(arguments, _OWN)
    checkpoint = required(values, "checkpoint", "the output folder of a run or a checkpoint")
    split = choice(values, "split", ("train", "val"))
    limit = None if values["limit"] is None else whole_number(values, "limit", "a number of images", least=1)
    if is_launched() and values["device"]:
        raise UserError(f"device={values['device']} does not go with torchrun, which gives each process a device")
    check_weights("checkpoint", checkpoint)
    check_data_root(override_checkpoint(Config(), overrides).data)
    output = new_file(values, "output") if values["output"] else None

    from maskformer_ext.engine.distributed import explain_lost_processes, stop_processes
    from maskformer_ext.evaluation.checkpoint import default_output, load_evaluation
    from maskformer_ext.evaluation.score_table import print_scores
    from maskformer_ext.inference.allocator import keep_freed_memory

    keep_freed_memory()
    place = join_processes(values)
    evaluation = load_evaluation(
        checkpoint,
        split,
        overrides=overrides,
        device=values["device"] if Path(checkpoint).suffix in PROGRAM_ENDINGS else place.device,
        runtime=values["runtime"],
        submission=values["submission"],
        format=values["format"],
    )
    output = output or default_output(checkpoint)
    if place.rank == 0 and evaluation.doubt:
        print(f"warning: {evaluation.doubt}", file=sys.stderr)

    def score(progress: Callable[[int, int], None] | None) -> dict[str, Any]:
        return evaluation.run(rank=place.rank, world=place.world, limit=limit, progress=progress)

    with explain_lost_processes(lambda: "start the same command again"):
        metrics = score(None) if place.rank else with_progress("images", score)
        stop_processes()
    if place.rank:
        return 0
    print_scores(metrics, evaluation.classes)
    write_json(output, {"checkpoint": checkpoint, "split": split, **metrics})
    if values["submission"]:
        print(values["submission"])
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
