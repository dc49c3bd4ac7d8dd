"""Export network and semantic post-processing: ``python -m maskformer_ext.export checkpoint=RUN output=FILE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskformer_ext.cli.command import required, run_command, split_arguments
from maskformer_ext.cli.early import check_weights
from maskformer_ext.cli.sizes import parse_size
from maskformer_ext.config import Config
from maskformer_ext.errors import UserError

_HELP = """usage: python -m maskformer_ext.export checkpoint=RUN output=FILE.onnx|FILE.pt2 size=HxW [key=value ...]

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
_PROGRAMS = ("SemanticNetwork", "check_export", "export_onnx", "export_program", "save_program")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 2 after a problem that the user can fix."""
    return run_command(_export, _HELP, arguments)


def _export(arguments: list[str]) -> int:
    values, overrides = split_arguments(arguments, _OWN)
    if overrides:
        raise UserError(f"unknown key {overrides[0].partition('=')[0]!r}: the keys are {', '.join(_OWN)}")
    checkpoint = required(values, "checkpoint", "the output folder of a run or a checkpoint")
    path = Path(required(values, "output", "a file that ends in .onnx or .pt2")).expanduser()
    size = parse_size(required(values, "size", "height and width of the images, as in size=512x1024"))
    batch = str(values["batch"])
    if path.suffix not in (".onnx", ".pt2"):
        raise UserError(f"output={path} must end in .onnx or .pt2")
    if not path.parent.is_dir():
        raise UserError(f"output={path}: the folder {path.parent} does not exist")
    if not batch.isdecimal() or int(batch) < 1:
        raise UserError(f"batch must be a number of images, at least 1, got {batch!r}")
    for key, allowed in (("outputs", ("classes", "scores")), ("check", ("true", "false"))):
        if values[key] not in allowed:
            raise UserError(f"{key} must be {' or '.join(allowed)}, got {values[key]!r}")

    check_weights("checkpoint", checkpoint)

    from maskformer_ext.checkpoints.models import load_checkpoint
    from maskformer_ext.inference.programs import check_export, export_onnx, export_program, save_program

    model, config, info = load_checkpoint(checkpoint, "cpu")
    check_exportable(config, size, info.num_classes)
    program = export_program(model, size, batch_size=int(batch), scores=values["outputs"] == "scores")
    (export_onnx if path.suffix == ".onnx" else save_program)(program, path)
    if values["check"] == "true":
        print(check_export(model, path, size, int(batch), scores=values["outputs"] == "scores"))
    print(path)
    return 0


def check_exportable(config: Config, size: tuple[int, int], num_classes: int) -> None:
    """Check that a program of the network and its semantic post-processing does what `segment` does.

    Args:
        config: of the checkpoint.
        size: height and width of the images.
        num_classes: K.

    Raises:
        UserError: if the model is no semantic one, or its recipe asks for what a program of one pass does not do.
    """
    inference = config.inference
    what = "export writes the semantic task, the class of every pixel"
    if config.data.task == "instance":
        raise UserError(
            f"{what}, which this model never learnt: it was trained with data.task=instance. Train with "
            "data.task=panoptic or semantic, or use maskformer_ext.predict"
        )
    if num_classes < 2:
        raise UserError(f"{what}, but this model knows one class only: the program would return 0 everywhere")
    if inference.tta:
        raise UserError(f"{what}, in one pass; the recipe averages over several (inference.tta=true), which it cannot")
    if inference.semantic != "sum":
        raise UserError(f"{what}, by inference.semantic=sum; the recipe says inference.semantic={inference.semantic}")
    if inference.tile and max(size) > inference.tile:
        raise UserError(
            f"{what}, in one pass; the recipe cuts images into tiles of {inference.tile} pixels (inference.tile): "
            f"export the program of a tile, size={inference.tile}x{inference.tile}"
        )


def __getattr__(name: str) -> Any:
    if name in _PROGRAMS:  # they bring torch, which --help does not need
        from maskformer_ext.inference import programs

        return getattr(programs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    sys.exit(main())
