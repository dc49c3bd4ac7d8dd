"""Names of ResNets and Swins in torchvision, timm, detectron2 and the Swin authors' files, brought to ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from maskformer_ext.checkpoints.files.tensors import check_fit
from maskformer_ext.errors import UserError

COUNTER = "num_batches_tracked"
"""How the last part of a batch norm's counter is called, which no network needs."""

# Modules of timm's deep stems, which are a list there.
_DEEP_STEM = {0: "conv1", 1: "conv1.norm", 3: "conv2", 4: "conv2.norm", 6: "conv3"}


def rename_backbone(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring the names of a ResNet or Swin, of torchvision, timm, detectron2 or the Swin authors, to this package's."""
    swin = any(key.endswith(".relative_position_bias_table") for key in weights)
    return (_rename_swin if swin else _rename_resnet)(weights)


def pair_in_order(weights: dict[str, Tensor], state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Rename ``weights`` to the names of ``state`` by position, leaving out batch counters.

    Raises:
        UserError: if the two differ in length or in the shape of any pair.
    """
    theirs = [(key, value) for key, value in weights.items() if not key.endswith(COUNTER)]
    ours = [(key, value) for key, value in state.items() if not key.endswith(COUNTER)]
    if len(theirs) != len(ours):
        raise UserError(f"weights {source} must hold {len(ours)} tensors, got {len(theirs)}")
    return {
        our_key: check_fit(value, target, their_key, f"weights {source} do not fit")
        for (their_key, value), (our_key, target) in zip(theirs, ours, strict=True)
    }


def _rename_resnet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring torchvision's and timm's names to those of ``ResNet``; names that are right already stay."""
    deep = "conv1.0.weight" in weights
    renamed = {}
    for key, value in weights.items():
        if deep:
            key = re.sub(r"^conv1\.([01346])\.", lambda match: f"stem.{_DEEP_STEM[int(match[1])]}.", key)
            key = re.sub(r"^bn1\.", "stem.conv3.norm.", key)
        key = re.sub(r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}.", key)
        key = re.sub(r"^(conv1|bn1)\.", r"stem.\1.", key)
        key = re.sub(r"\bbn(\d)\.", r"conv\1.norm.", key)
        key = key.replace(".downsample.0.", ".shortcut.").replace(".downsample.1.", ".shortcut.norm.")
        renamed[key] = value
    return renamed


def _rename_swin(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring the authors', torchvision's and timm's names to ``Swin``'s; timm merges before a stage, not after."""
    before = any(key.startswith("layers.3.downsample.") for key in weights)
    renamed = {}
    for key, value in weights.items():
        key = re.sub(r"^norm(\d)\.", r"norms.\1.", key)
        if before:
            key = re.sub(r"^layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) - 1}.downsample", key)
        key = key.replace(".mlp.0.", ".mlp.fc1.").replace(".mlp.3.", ".mlp.fc2.")
        renamed[re.sub(r"^features\.(\d)\.(\w+)", _torchvision_stage, key)] = value
    return renamed


def _torchvision_stage(match: re.Match[str]) -> str:
    """Name a module of torchvision's list: patches, then blocks and merging in turns."""
    index, part = int(match[1]), match[2]
    if index == 0:
        return f"patch_embed.{'norm' if part == '2' else 'proj'}"
    stage, merging = divmod(index - 1, 2)
    return f"layers.{stage}.downsample.{part}" if merging else f"layers.{stage}.blocks.{part}"
