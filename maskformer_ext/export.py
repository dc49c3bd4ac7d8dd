"""Export network and semantic post-processing: ``maskformer-ext export checkpoint=RUN output=FILE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from maskformer_ext.cli.arguments import boolean, choice, new_file, required, size, split_arguments, whole_number
from maskformer_ext.cli.command import run_command
from maskformer_ext.cli.early import check_weights
from maskformer_ext.errors import UserError

_HELP = """usage: maskformer-ext export checkpoint=RUN output=FILE.onnx|FILE.pt2 size=HxW [key=value ...]

Write the network and its semantic post-processing as one program of plain PyTorch or ONNX operators, for images of one
size: uint8 RGB (B, 3, H, W) in, classes (B, H, W) int64 out.

  checkpoint=PATH   output folder of a run (its newest checkpoint), a checkpoints/iter_* folder, or model.safetensors
  output=FILE       .onnx, or .pt2 for torch.export.load
  size=HxW          of the images in pixels, after the resize of test time (inference.min_size of the run)
  batch=1           how many images a call takes
  outputs=classes   classes, or scores: (B, K, H, W) float32
  check=true        run what was written on a random image, and compare with the network (ONNX: in onnxruntime)

Only semantic results are written: a model that was trained for instances (data.task=instance), and recipes with tiles
smaller than the image or with test-time augmentation, are refused. A model for panoptic results gives its classes.

ONNX needs pip install 'maskformer-ext[onnx]'."""

_OWN = {"checkpoint": None, "output": None, "size": None, "batch": "1", "outputs": "classes", "check": "true"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 2 after a problem that the user can fix."""
    return run_command(_export, _HELP, arguments)


def _export(arguments: list[str]) -> int:
    values, _ = split_arguments(arguments, _OWN, sections=())
    checkpoint = required(values, "checkpoint", "the output folder of a run or a checkpoint")
    output = required(values, "output", "a file that ends in .onnx or .pt2")
    required(values, "size", "height and width of the images, as in size=512x1024")
    image_size = size(values, "size")
    if Path(output).suffix not in (".onnx", ".pt2"):
        raise UserError(f"output={output} must end in .onnx or .pt2")
    path = new_file(values, "output")
    batch = whole_number(values, "batch", "a number of images", least=1)
    scores = choice(values, "outputs", ("classes", "scores")) == "scores"
    check = boolean(values, "check")
    check_weights("checkpoint", checkpoint)

    from maskformer_ext.inference.export import export_checkpoint

    if said := export_checkpoint(checkpoint, path, image_size, batch_size=batch, scores=scores, check=check):
        print(said)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
