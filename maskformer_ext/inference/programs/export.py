"""The program of a checkpoint: which models it does justice to, and the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

import maskformer_ext
from maskformer_ext.checkpoints.models import load_checkpoint
from maskformer_ext.config import Config
from maskformer_ext.config.tasks import choose_task
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError
from maskformer_ext.inference.programs.agreement import check_program
from maskformer_ext.inference.programs.metadata import ProgramMetadata, shareable
from maskformer_ext.inference.programs.tracing import ProgramNetwork, result_names, trace, write_program
from maskformer_ext.media.images import read_image, resize_rgb_shortest_edge

TASK_OF = {"classes": "semantic", "scores": "semantic", "segments": "panoptic", "instances": "instance"}
"""The task of each value of ``outputs=``; ``queries`` goes with all."""

_USUAL = {"semantic": "classes", "panoptic": "segments", "instance": "instances"}


@dataclass(frozen=True)
class ExportRequest:
    """What a user asks of `export`.

    Attributes:
        task: None: what the model was trained for.
        outputs: keys of `tracing.RESULTS`; (): those of the task, and queries.
        size: height and width of the images; None: any.
        batch: how many images a call takes; None: any number.
        check: run what was written, and compare it with the network.
        image: to compare on; None: random ones.
    """

    task: str | None = None
    outputs: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    batch: int | None = None
    check: bool = True
    image: str | None = None


def export_checkpoint(checkpoint: str, path: Path, request: ExportRequest) -> list[str]:
    """Write the network of a checkpoint and its reduction as one program.

    Args:
        checkpoint: whatever `load_checkpoint` reads.
        path: of the program; it ends in ``.onnx`` or ``.pt2``.
        request: what it shall do.

    Returns:
        Lines: what was written, and how well it agrees with the network.

    Raises:
        UserError: if the model cannot be exported, the file cannot be written, or the two disagree.
    """
    model, recipe, info = load_checkpoint(checkpoint, "cpu")
    return export_model(model, recipe, info, path, request)


def export_model(model: nn.Module, recipe: Config, info: DatasetInfo, path: Path, request: ExportRequest) -> list[str]:
    """Write a model and its reduction as one program; results and errors are those of `export_checkpoint`.

    Args:
        model: a ``MaskFormer`` or a per-pixel baseline.
        recipe: its configuration.
        info: its classes.
        path: of the program.
        request: what it shall do.
    """
    task, outputs = check_exportable(recipe, info, request)
    network = ProgramNetwork(model, outputs, info.thing_classes, recipe.inference)
    metadata = ProgramMetadata(
        task=task,
        outputs=result_names(outputs, queries=recipe.model.architecture == "maskformer"),
        size=request.size,
        batch=request.batch,
        recipe=shareable(recipe),
        info=info,
        version=maskformer_ext.__version__,
    )
    write_program(trace(network, size=request.size, batch=request.batch), path, metadata)
    images = None
    if request.check and request.image is not None:
        settings = recipe.inference
        pixels = read_image(request.image)
        if request.size is not None:
            raise UserError("check=IMAGE is for programs of any size; give check=true with size=HxW")
        pixels = resize_rgb_shortest_edge(pixels.permute(1, 2, 0).numpy(), settings.min_size, settings.max_size)
        images = [pixels[None].expand(request.batch or 1, -1, -1, -1).contiguous()]
    return [_describe(path, metadata), *(check_program(model, path, metadata, images) if request.check else [])]


def _describe(path: Path, metadata: ProgramMetadata) -> str:
    """Return in a line what a file takes and gives."""
    height, width = metadata.size or ("height", "width")
    return (
        f"{metadata.task}, {path.stat().st_size / 1e6:.1f} MB: images ({metadata.batch or 'batch'}, 3, {height}, "
        f"{width}) uint8 RGB -> {', '.join(metadata.outputs)}"
    )


def check_exportable(recipe: Config, info: DatasetInfo, request: ExportRequest) -> tuple[str, tuple[str, ...]]:
    """Check that a program of the network and its reduction does what `segment` does.

    Args:
        recipe: of the checkpoint.
        info: its classes.
        request: what the program shall do.

    Returns:
        The task and the outputs.

    Raises:
        UserError: if the model never learnt the task, or its recipe asks for what a program of one pass does not do.
    """
    inference, trained = recipe.inference, recipe.data.task
    asked = [output for output in request.outputs if output != "queries"]
    task = request.task or next((TASK_OF[output] for output in asked), None)
    task = choose_task(task, recipe.model.architecture, bool(info.thing_classes), trained=trained)
    outputs = request.outputs or (_USUAL[task], "queries")
    for output in asked:
        if TASK_OF[output] != task:
            raise UserError(f"outputs={output} belongs to task={TASK_OF[output]}, not to task={task}")
    if trained == "instance" and task != "instance":
        raise UserError(
            f"task={task} is what this model never learnt: it was trained with data.task=instance. Give task=instance, "
            "or train with data.task=panoptic or semantic"
        )
    if tuple(outputs) == ("queries",):
        return task, tuple(outputs)
    _check_one_pass(recipe, request.size)
    if inference.semantic != "sum" and "scores" in outputs:
        raise UserError(f"outputs=scores needs inference.semantic=sum, the recipe says {inference.semantic}")
    if "classes" in outputs and info.num_classes < 2:
        raise UserError("outputs=classes: this model knows one class only, so that all would be 0; give outputs=scores")
    return task, tuple(outputs)


def _check_one_pass(recipe: Config, size: Sequence[int] | None) -> None:
    inference = recipe.inference
    instead = "outputs=queries writes the network alone, and predict does the rest"
    if inference.tta:
        raise UserError(
            f"a program runs the network once, the recipe averages over several views (inference.tta=true): {instead}"
        )
    if inference.tile and (size is None or max(size) > inference.tile):
        raise UserError(
            f"a program runs the network once, the recipe cuts images into tiles (inference.tile={inference.tile}): "
            f"{instead}, or export the program of a tile, size={inference.tile}x{inference.tile}"
        )
