"""Backbones alone through the convert command: the weights that arrive are those of the file."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from maskformer_ext import MaskFormer, build_model
from maskformer_ext.checkpoints.backbone_weights import rename_backbone
from maskformer_ext.checkpoints.sizes import infer_backbone
from maskformer_ext.config import ModelConfig
from maskformer_ext.config_io import load_config
from maskformer_ext.convert import main
from maskformer_ext.errors import UserError
from maskformer_ext.modeling.backbone import build_backbone


def backbone(name: str, source: Path) -> dict[str, Tensor]:
    return build_backbone(ModelConfig(backbone=name, backbone_weights=str(source))).state_dict()


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
    expected = backbone(name, path)
    assert_same(backbone(name, folder), expected)
    config = load_config(str(folder / "config.yaml")).model
    assert config.backbone == name and Path(config.backbone_weights) == folder / "model.safetensors"
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


@pytest.mark.parametrize(("name", "layout"), [("resnet18", "native"), ("resnet50", "hf")])
def test_the_backbone_of_a_whole_model_is_taken(tmp_path: Path, name: str, layout: str) -> None:
    model = build_model(ModelConfig(backbone=name, num_classes=3, hidden_dim=32, decoder_layers=1, feedforward_dim=8))
    whole = model.save_pretrained(tmp_path / "whole", layout=layout)
    assert_same(backbone(name, whole), model.backbone.state_dict())
    assert main([str(whole), str(tmp_path / "out"), f"backbone={name}"]) == 0
    assert_same(backbone(name, tmp_path / "out"), model.backbone.state_dict())


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
