"""The program of a checkpoint: which models it does justice to, and the file."""

from __future__ import annotations

from pathlib import Path

from maskformer_ext.checkpoints.models import load_checkpoint
from maskformer_ext.config import Config
from maskformer_ext.errors import UserError
from maskformer_ext.inference.programs import check_export, export_onnx, export_program, save_program


def export_checkpoint(
    checkpoint: str, path: Path, size: tuple[int, int], *, batch_size: int = 1, scores: bool = False, check: bool = True
) -> str | None:
    """Write the network of a checkpoint and its semantic post-processing as one program.

    Args:
        checkpoint: whatever `load_checkpoint` reads.
        path: of the program; it ends in ``.onnx`` or ``.pt2``.
        size: height and width of the images.
        batch_size: how many images a call takes.
        scores: return scores instead of classes.
        check: run what was written, and compare it with the network.

    Returns:
        In words how well program and network agree; None where that was not checked.

    Raises:
        UserError: if the model cannot be exported, the file cannot be written, or the two disagree.
    """
    model, config, info = load_checkpoint(checkpoint, "cpu")
    check_exportable(config, size, info.num_classes)
    program = export_program(model, size, batch_size=batch_size, scores=scores)
    (export_onnx if path.suffix == ".onnx" else save_program)(program, path)
    return check_export(model, path, size, batch_size, scores=scores) if check else None


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
