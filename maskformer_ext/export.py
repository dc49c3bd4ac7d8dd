"""Export a model as one program for other runtimes: ``maskformer-ext export checkpoint=RUN output=FILE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from maskformer_ext.cli.arguments import boolean, choice, new_file, required, size, split_arguments, whole_number
from maskformer_ext.cli.command import run_command
from maskformer_ext.cli.early import check_weights
from maskformer_ext.cli.hints import print_next, shell
from maskformer_ext.config.tasks import TASKS
from maskformer_ext.config.values import PROGRAM_ENDINGS, check_choice
from maskformer_ext.errors import UserError, printable

_OUTPUTS = ("classes", "scores", "segments", "instances", "queries")

_HELP = """usage: maskformer-ext export checkpoint=RUN output=FILE.onnx|FILE.pt2 [key=value ...]

Write the network with everything around it as one program of plain operators: uint8 RGB images (batch, 3, height,
width) in, results of their size out. It normalises and pads the images itself, and holds names and colours of the
classes in its metadata. predict and evaluate take the file as checkpoint=, and run it without the network's code.

  checkpoint=PATH   output folder of a run (its newest checkpoint), a checkpoints/iter_* folder, or model.safetensors
  output=FILE       .onnx, or .pt2 for torch.export.load
  task=NAME         semantic, instance or panoptic; by default what the model was trained for
  size=dynamic      images of any size, or of one: size=512x768 (height x width)
  batch=dynamic     any number of images per call, or one number
  outputs=NAMES     with commas; by default the first of the task, and queries:
                      classes    semantic: class id per pixel
                      scores     semantic: score of each class per pixel
                      segments   panoptic: segment_map, and ids, labels, scores and areas of the segments
                      instances  masks, scores, labels and boxes; the number of rows is inference.top_k
                      queries    the network's class_logits and mask_logits, which predict and evaluate need
  check=true        run what was written, and compare each result with the network: in onnxruntime and OpenVINO, where
                    they are installed; check=PHOTO.jpg compares on this image

The resize of test time (inference.min_size of the run) is not part of the program. Rows that stand for nothing have the
label -1. Recipes that cut images into tiles or average over views are refused, except with outputs=queries.

ONNX needs pip install 'maskformer-ext[onnx]', OpenVINO 'maskformer-ext[openvino]'."""

_OWN = {
    "checkpoint": None,
    "output": None,
    "task": None,
    "size": "dynamic",
    "batch": "dynamic",
    "outputs": None,
    "check": "true",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 2 after a problem that the user can fix."""
    return run_command(_export, _HELP, arguments)


def _export(arguments: list[str]) -> int:
    values, _ = split_arguments(arguments, _OWN, sections=())
    checkpoint = required(values, "checkpoint", "the output folder of a run or a checkpoint")
    output = required(values, "output", "a file that ends in .onnx or .pt2")
    if Path(output).suffix not in PROGRAM_ENDINGS:
        raise UserError(f"output={output} must end in .onnx or .pt2")
    if Path(checkpoint).suffix in PROGRAM_ENDINGS:
        raise UserError(f"checkpoint={checkpoint} is exported already: give the checkpoint that it was made of")
    path = new_file(values, "output")
    task = None if values["task"] is None else choice(values, "task", TASKS)
    image_size = None if values["size"] == "dynamic" else size(values, "size")
    batch = None if values["batch"] == "dynamic" else whole_number(values, "batch", "dynamic or a number", least=1)
    outputs = tuple(name.strip() for name in (values["outputs"] or "").split(",") if name.strip())
    for name in outputs:
        check_choice("outputs", name, _OUTPUTS)
    image = values["check"] if Path(values["check"] or "").expanduser().is_file() else None
    check = image is not None or boolean(values, "check")
    check_weights("checkpoint", checkpoint)

    from maskformer_ext.inference.programs.export import ExportRequest, export_checkpoint

    request = ExportRequest(task, outputs, image_size, batch, check, image)
    for line in export_checkpoint(checkpoint, path, request):
        print(line)
    print(printable(path))
    if not outputs or "queries" in outputs:
        print_next([f"predict checkpoint={shell(path)} input=photo.jpg output=predictions"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
