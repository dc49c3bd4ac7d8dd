"""A network of distinct sizes, its weights as others write them, and comparisons, for tests of checkpoints."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from tiny import tiny_config
from torch import Tensor, nn

from maskformer_ext.checkpoints import original_name
from maskformer_ext.checkpoints.files.safetensors_files import read_safetensors
from maskformer_ext.data.types import DatasetInfo

# Sizes that differ from each other, so that none can stand in for another. Files of others do not name the heads.
SIZES = {"num_queries": 5, "pixel_decoder_dim": 32, "mask_dim": 16, "feedforward_dim": 24, "num_heads": 8}
SMALL = tiny_config(3, backbone="resnet50", decoder_layers=2, **SIZES)
INFO = DatasetInfo("three", ("sky", "car", "tree"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)), thing_classes=(1,))


def original_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's weights under the original's names."""
    return {original_name(name): value for name, value in model.state_dict().items()}


def write_original(model: nn.Module, path: Path, *, old: bool = False) -> Path:
    """Write weights as the original's model zoo and its trainer do."""
    weights = original_weights(model) | {"criterion.empty_weight": torch.ones(4)}
    if old:
        weights = {name.replace("sem_seg_head.pixel_decoder.", "sem_seg_head."): w for name, w in weights.items()}
    if path.suffix == ".pkl":
        arrays = {name: value.numpy() for name, value in weights.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "zoo", "matching_heuristics": True}))
    else:
        torch.save({"model": weights, "iteration": 7}, path)
    return path


def assert_same_weights(model: nn.Module, other: nn.Module) -> None:
    """Check that two models have the same names and values."""
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def assert_same_files(folder: Path, other: Path) -> None:
    """Check that two folders hold the same texts, tensors and headers, whose entries have any order."""
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        if name != "model.safetensors":
            assert (folder / name).read_bytes() == (other / name).read_bytes()
    (ours, header), (theirs, other_header) = (read_safetensors(path / "model.safetensors") for path in (folder, other))
    assert header == other_header and ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
