"""Weights of a backbone alone, from any of the layouts that it may have, in a folder of this package's own."""

from __future__ import annotations

import json
from pathlib import Path

from maskformer_ext.checkpoints.backbone_weights import (
    build_pretrained_backbone,
    read_backbone_weights,
)
from maskformer_ext.checkpoints.files.safetensors_files import write_safetensors
from maskformer_ext.checkpoints.layouts.backbone_names import rename_backbone
from maskformer_ext.checkpoints.layouts.inferred_config import infer_backbone
from maskformer_ext.checkpoints.layouts.native import CONFIG_FILE, MODEL_FILE
from maskformer_ext.config import ModelConfig
from maskformer_ext.errors import UserError
from maskformer_ext.files import new_folder, write_text

_CONFIG = """# The backbone alone, for a recipe's "base", or on its command line.
model:
  backbone: {name}
  backbone_weights: {file}
"""


def convert_backbone(
    source: str, folder: str | Path, *, name: str | None = None, overwrite: bool = False
) -> tuple[str, int]:
    """Write the weights of a backbone to a folder that ``model.backbone_weights`` takes.

    Args:
        source: what ``model.backbone_weights`` takes (`backbone_weights` lists it).
        folder: the new folder.
        name: a value of ``model.backbone``; None: read off the shapes, for the ResNets and Swins of the original.
        overwrite: replace an earlier folder of this kind.

    Returns:
        The name of the backbone, and how many numbers were written.

    Raises:
        UserError: if the weights cannot be read, do not fit the backbone, or the folder cannot be written.
    """
    name = name or _name_from_shapes(source)
    state = build_pretrained_backbone(ModelConfig(backbone=name, backbone_weights=source)).state_dict()
    inner = any(key.startswith("net.") for key in state)  # timm's network; what is built around it has no weights yet
    weights = {f"backbone.{key}": value for key, value in state.items() if not inner or key.startswith("net.")}
    folder = Path(folder).expanduser()
    with new_folder(folder, overwrite=overwrite) as temporary:
        write_safetensors(temporary / MODEL_FILE, weights, {"backbone": name})
        file = str((folder / MODEL_FILE).resolve()).replace("${", "\\${")  # no reference to another key
        write_text(temporary / CONFIG_FILE, _CONFIG.format(name=json.dumps(name), file=json.dumps(file)))
    return name, sum(value.numel() for value in weights.values())


def _name_from_shapes(source: str) -> str:
    weights = read_backbone_weights(source)
    try:
        return infer_backbone({f"backbone.{key}": value for key, value in rename_backbone(weights).items()})
    except UserError as error:
        raise UserError(
            f"{source} holds neither a MaskFormer nor one of its backbones "
            f"({str(error).removeprefix('checkpoint: ')}); name another backbone with backbone=NAME"
        ) from error
