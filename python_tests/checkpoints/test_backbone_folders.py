"""Backbones alone through the convert command: the weights that arrive are those of the file."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
import timm
import torch
from tiny import tiny_config
from torch import Tensor
from typed import present

from maskformer_ext import MaskFormer, build_model
from maskformer_ext.checkpoints.backbone_weights import build_pretrained_backbone
from maskformer_ext.checkpoints.backbone_weights import read_backbone_weights as read
from maskformer_ext.checkpoints.files.safetensors_files import write_safetensors
from maskformer_ext.checkpoints.layouts.backbone_names import rename_backbone
from maskformer_ext.checkpoints.layouts.inferred_config import infer_backbone
from maskformer_ext.checkpoints.layouts.transformers_names import to_transformers_names
from maskformer_ext.config import ModelConfig
from maskformer_ext.config.load import load_config
from maskformer_ext.convert import main
from maskformer_ext.errors import UserError


def assert_same(weights: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert weights.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in weights.items())


@pytest.mark.parametrize(
    ("name", "file", "arguments"),
    [("resnet50", "weights.pkl", []), ("resnet18", "weights.pth", ["backbone=resnet18"])],
)
def test_a_backbone_arrives_bit_by_bit(tmp_path: Path, capsys, name: str, file: str, arguments: list[str]) -> None:
    weights, path, folder = timm.create_model(name).state_dict(), tmp_path / file, tmp_path / "out"
    if file.endswith(".pkl"):
        path.write_bytes(pickle.dumps({"model": {key: value.numpy() for key, value in weights.items()}}))
    else:
        torch.save(weights, path)
    assert main([str(path), str(folder), *arguments]) == 0
    assert f"model.backbone={name} model.backbone_weights={folder}" in capsys.readouterr().out
    expected = rename_backbone(weights) if name == "resnet50" else weights  # timm's own names stay
    unused = re.compile(r"(stem\.)?fc\.|.*num_batches_tracked")
    assert_same(*({key: w for key, w in ws.items() if not unused.match(key)} for ws in (read(folder), expected)))
    config = load_config(str(folder / "config.yaml")).model
    assert config.backbone == name and Path(present(config.backbone_weights)) == folder / "model.safetensors"
    with pytest.raises(
        UserError, match=r"model\.safetensors: there are no weights of .*head.* model\.backbone_weights"
    ):
        MaskFormer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "library", "theirs"),
    [
        ("resnet101", "timm", "resnet101"),
        ("resnet101c", "timm", "resnet101s"),
        ("swin_tiny", "timm", "swin_tiny_patch4_window7_224"),
        ("swin_base", "timm", "swin_base_patch4_window12_384"),
        ("swin_large", "timm", "swin_large_patch4_window12_384"),
        ("resnet50", "torchvision", "resnet50"),
        ("swin_small", "torchvision", "swin_s"),
    ],
)
def test_shapes_tell_the_backbone(name: str, library: str, theirs: str) -> None:
    with torch.device("meta"):
        create = timm.create_model if library == "timm" else pytest.importorskip("torchvision.models").get_model
        weights = rename_backbone(create(theirs).state_dict())
    assert infer_backbone({f"backbone.{key}": value for key, value in weights.items()}) == name


def test_the_backbone_of_a_whole_model_is_taken(tmp_path: Path) -> None:
    model = build_model(tiny_config(num_classes=3))
    whole = model.save_pretrained(tmp_path / "whole")
    assert main([str(whole), str(tmp_path / "out"), "backbone=resnet18"]) == 0
    taken = build_pretrained_backbone(ModelConfig(backbone="resnet18", backbone_weights=str(tmp_path / "out")))
    assert_same(taken.state_dict(), model.backbone.state_dict())


def test_the_backbone_of_transformers_maskformer_is_taken(tmp_path: Path) -> None:
    weights = {"backbone.stem.conv1.weight": torch.randn(2, 3, 1, 1), "backbone.res3.1.conv2.norm.bias": torch.randn(4)}
    head = {"sem_seg_head.predictor.class_embed.weight": torch.randn(3, 2)}
    write_safetensors(tmp_path / "model.safetensors", to_transformers_names(weights | head), {})
    assert_same(read(tmp_path), {key.removeprefix("backbone."): value for key, value in weights.items()})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got 2 blocks in the third stage and a plain stem); name another backbone with backbone=NAME"),
        (["num_classes=3"], "num_classes=3 does not go with the weights of a backbone alone"),
        (["backbone=resnet18", "--to", "hf"], "to=hf does not go with the weights of a backbone alone"),
        (["backbone=resnet34"], "do not fit resnet34: layer1.2.conv1.weight must be (64, 64, 3, 3), got no such entry"),
        (["backbone=resnet"], "got 'resnet'"),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path: Path, capsys, arguments: list[str], message: str) -> None:
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "weights.pth")
    assert main([str(tmp_path / "weights.pth"), str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
