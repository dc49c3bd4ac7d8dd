"""Open what predict and evaluate are given: a checkpoint, or an exported program in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskformer_ext.config import Config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError
from maskformer_ext.inference.programs.exported_model import ExportedModel
from maskformer_ext.inference.programs.metadata import is_program


def load_for_inference(
    source: str | Path, device: Any = None, *, runtime: str | None = None
) -> tuple[Any, Config, DatasetInfo]:
    """Load a checkpoint, or open an exported program without the code of the network.

    Args:
        source: whatever `load_checkpoint` reads, or a ``.onnx`` or ``.pt2`` file of ``export``.
        device: where it runs; None: the CPU, or for a program a GPU where its runtime knows one.
        runtime: of a program.

    Returns:
        The model, its configuration, and the classes that it knows.

    Raises:
        UserError: if it cannot be read, or a runtime is given for a checkpoint.
    """
    if is_program(source):
        program = ExportedModel(source, runtime=runtime, device=None if device is None else str(device))
        program.open()
        return program, program.recipe, program.dataset_info
    if runtime is not None:
        raise UserError(f"runtime={runtime} is for exported programs (.onnx, .pt2), {source} is a checkpoint")
    from maskformer_ext.checkpoints.models import load_checkpoint  # brings the networks, and timm

    return load_checkpoint(source, device or "cpu")
