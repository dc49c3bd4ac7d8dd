"""Folded batch norms: the network's own results, its weights of the moment, and nothing about it changed."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from maskformer_ext import build_model
from maskformer_ext.modeling import folding
from maskformer_ext.modeling.folding import FoldedNetwork
from maskformer_ext.modeling.products import use_fast_products


class _Small(nn.Module):
    def __init__(self, **norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8, **norm)
        self.conv2 = nn.Conv2d(8, 8, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(8, **norm)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.norm1(self.conv1(images)).relu()
        y = self.conv2(x)
        return [self.norm2(y), y]  # a norm that reads what another reads too


def _network(**norm: bool) -> nn.Module:
    torch.manual_seed(0)
    network = use_fast_products(_Small(**norm))
    for _ in range(3):
        network(torch.randn(4, 3, 12, 10))
    return network.eval()


def _calls(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    calls: list[nn.Module] = []
    convolve = folding._convolve_and_normalize

    def counted(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
        calls.append(conv)
        return convolve(x, conv, norm)

    monkeypatch.setattr(folding, "_convolve_and_normalize", counted)
    return calls


def _compare(folded: FoldedNetwork, network: nn.Module, images: Tensor) -> None:
    exact = copy.deepcopy(network).double()
    with torch.no_grad():
        for _ in range(2):  # the first call is the network's own
            for found, expected in zip(folded(images), exact(images.double()), strict=True):
                torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", [{}, {"affine": False}, {"track_running_stats": False}], ids=str)
@pytest.mark.parametrize("size", [(12, 10), (1, 2)])
def test_a_norm_is_folded_where_it_alone_reads_a_convolution(monkeypatch, norm: dict, size: tuple[int, int]) -> None:
    calls = _calls(monkeypatch)
    network = _network(**norm)
    folded = FoldedNetwork(network)
    _compare(folded, network, torch.randn(2, 3, *size))
    assert set(calls) == {network.conv1}


def test_weights_count_as_they_are_at_the_call(monkeypatch) -> None:
    calls = _calls(monkeypatch)
    network = _network()
    folded, images = FoldedNetwork(network), torch.randn(2, 3, 12, 10)
    _compare(folded, network, images)
    network.train()
    torch.stack([y.square().sum() for y in folded(images)]).sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            assert parameter.grad is not None
            parameter.data -= 0.01 * parameter.grad  # past autograd's count of versions
    before = len(calls)
    _compare(folded, network.eval(), images)
    assert len(calls) > before


def test_a_changed_network_runs_as_it_is_now() -> None:
    network = _network()
    folded, images = FoldedNetwork(network), torch.randn(2, 3, 12, 10)
    _compare(folded, network, images)
    network.norm1 = nn.Identity()
    _compare(folded, network, images)
    seen: list[Tensor] = []
    network.get_submodule("conv1").register_forward_hook(lambda module, inputs, output: seen.append(output))
    _compare(folded, network, images)
    assert seen


def test_a_program_that_finds_something_else_is_not_taken(monkeypatch) -> None:
    monkeypatch.setattr(folding, "_convolve_and_normalize", lambda x, conv, norm: conv(x))
    network = _network()
    _compare(FoldedNetwork(network), network, torch.randn(2, 3, 12, 10))


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "timm:resnet18", "convnext_atto", "regnetx_002"])
def test_backbones_give_the_same_features_and_can_be_copied_and_trained(backbone: str) -> None:
    torch.manual_seed(0)
    model = build_model("digits", backbone=backbone, backbone_weights=None).train()
    names = list(model.state_dict())
    model.backbone(torch.randn(2, 3, 64, 64))
    model.eval()
    images = torch.randn(1, 3, 64, 96)
    exact = copy.deepcopy(model.backbone).double()
    with torch.inference_mode():
        for _ in range(2):
            for found, expected in zip(model.backbone(images), exact(images.double()), strict=True):
                assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
        twin = pickle.loads(pickle.dumps(copy.deepcopy(model.backbone)))
        for found, expected in zip(twin(images), model.backbone(images), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert list(model.state_dict()) == names
    model.train()
    model.backbone(images)[-1].sum().backward()
    assert any(parameter.grad is not None for parameter in model.backbone.parameters())
