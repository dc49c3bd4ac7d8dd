"""Products by oneDNN: the results and gradients of torch's own, in every shape, and nothing else changed."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext import build_model
from maskformer_ext.modeling import products
from maskformer_ext.modeling.layers import ConvNorm, FrozenBatchNorm2d
from maskformer_ext.modeling.swin import Swin


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let products of any size and on any processor take oneDNN."""
    monkeypatch.setattr(products, "_LEAST_PRODUCTS", 1)
    monkeypatch.setattr(products, "_lacks_mkl", lambda: True)


def _gradients(result: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view_as(result)
    return list(torch.autograd.grad((result * weights).sum(), inputs))


@pytest.mark.parametrize("shape", [(7, 5), (1, 1), (2, 3, 4, 33), (0, 8), (3, 1, 16)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_torchs(shape: tuple[int, ...], bias: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(shape, generator=draw), torch.randn(6, shape[-1], generator=draw)
    inputs = [x, weight, *([torch.randn(6, generator=draw)] if bias else [])]
    inputs = [value.requires_grad_() for value in inputs]
    found, expected = products.linear(*inputs), F.linear(*[value.double() for value in inputs])
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(_gradients(found, inputs), _gradients(expected, inputs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 1, "padding": 1},
        {"kernel_size": 1, "groups": 2},
        {"kernel_size": 1, "padding": "same", "bias": False},
        {"kernel_size": 1, "padding": 1, "padding_mode": "reflect"},
        {"kernel_size": 3, "padding": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["planes", "channels_last"])
def test_convolutions_equal_torchs(options: dict, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 6, **options)
    ours = products.use_fast_products(nn.Sequential(copy.deepcopy(plain)))
    x = torch.randn(2, 8, 9, 7).contiguous(memory_format=layout)
    found, expected = ours(x), plain.double()(x.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    mine, theirs = _gradients(found, list(ours.parameters())), _gradients(expected, list(plain.parameters()))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


def test_only_torchs_own_layers_are_changed_and_their_names_stay() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Conv2d(3, 3, 1), nn.LazyLinear(2))
    names = list(network.state_dict())
    products.use_fast_products(network)
    kinds = [type(module) for module in network]
    assert kinds == [products.Linear, products.Conv2d, nn.LazyLinear]
    assert list(network.state_dict()) == names
    assert isinstance(pickle.loads(pickle.dumps(network[0])), products.Linear)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_stay_with_torch(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr(products, "_pointwise", None)
    x, weight = torch.randn(4, 3, dtype=dtype), torch.randn(2, 3, dtype=dtype)
    assert torch.equal(products.linear(x, weight), F.linear(x, weight))
    with torch.autocast("cpu", torch.bfloat16):
        assert products.linear(x.float(), weight.float()).dtype == torch.bfloat16


@pytest.mark.parametrize("backbone", ["resnet50", "swin_tiny", "tf_efficientnet_lite0", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("pixel_decoder", ["fpn", "transformer_encoder"])
def test_a_network_and_its_gradients_stay_the_same(
    monkeypatch: pytest.MonkeyPatch, backbone: str, pixel_decoder: str
) -> None:
    """Compare float32 by oneDNN with float64, which always is torch's own."""
    torch.manual_seed(0)
    model = build_model(
        "digits",
        backbone=backbone,
        pixel_decoder=pixel_decoder,
        backbone_weights=None,
        decoder_memory="backbone" if pixel_decoder == "transformer_encoder" else "pixel_decoder",
        decoder_layers=2,
        encoder_layers=1,
        masked_attention=False,  # its decisions at near ties are no matter of rounding
    ).eval()
    images = torch.randn(2, 3, 64, 96)  # one alone is small
    calls: list[int] = []
    pointwise = products._pointwise

    def counted(*arguments):
        calls.append(1)
        return pointwise(*arguments)

    monkeypatch.setattr(products, "_pointwise", counted)
    mine = _outputs_and_gradients(model, images)
    assert len(calls) > 20
    exact = _outputs_and_gradients(copy.deepcopy(model).double(), images.double())
    monkeypatch.setattr(products, "_lacks_mkl", lambda: False)
    plain = _outputs_and_gradients(model, images)
    # A ReLU that rounding decides otherwise changes gradients by some 1e-3, with torch's products as with oneDNN's.
    # Gradients of single layers are compared more closely above.
    for ours, theirs, truth, beyond in zip(mine, plain, exact, (1e-6, 1e-6, 1e-6, 2e-2), strict=True):
        scale = float(truth.norm())
        # untrained layers amplify rounding, so torch's own error is the measure
        assert float((ours - truth).norm()) <= 4 * float((theirs - truth).norm()) + beyond * scale


def _outputs_and_gradients(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Return outputs in float64, and all gradients of a sum over them in one vector."""
    model.zero_grad(set_to_none=True)
    out = model(images)
    outputs = [out.class_logits, out.mask_embed, out.mask_features]
    torch.stack([(values**2).mean() for values in outputs]).sum().backward()
    gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return [values.detach().double() for values in (*outputs, torch.cat(gradients))]


def test_maps_keep_their_channels_side_by_side() -> None:
    """A convolution that got the other order would copy its whole input."""
    model = build_model("digits", backbone="swin_tiny", backbone_weights=None).eval()
    layouts: list[bool] = []
    for module in model.pixel_decoder.modules():
        if isinstance(module, ConvNorm):
            module.register_forward_pre_hook(
                lambda _module, inputs: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
            )
    with torch.inference_mode():
        model(torch.randn(1, 3, 64, 64))
    assert layouts and all(layouts)


@pytest.mark.parametrize("kernel, stride, size", [(1, 1, 16), (3, 2, 16), (3, 1, 1)])
def test_a_frozen_norm_is_folded_into_the_weights_where_these_are_few(kernel: int, stride: int, size: int) -> None:
    torch.manual_seed(0)
    norm = FrozenBatchNorm2d(8)
    for _name, values in norm.named_buffers():
        values.uniform_(0.5, 2.0)
    layer = ConvNorm(4, 8, kernel, norm=norm, stride=stride, relu=True)
    precise = copy.deepcopy(layer).double()
    x = torch.randn(2, 4, size, size)
    plain = F.conv2d(x.double(), precise.weight, None, stride, layer.padding)
    assert precise.norm is not None
    expected = precise.norm(plain).relu()
    found = layer(x)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    mine, theirs = _gradients(found, [layer.weight]), _gradients(expected, [precise.weight])
    torch.testing.assert_close(mine[0].double(), theirs[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (60, 92)])
def test_windows_attend_the_same_with_and_without_gradients(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    swin = Swin(24, (2, 2), (3, 6), window=4, drop_path=0.0).eval()
    images = torch.randn(2, 3, *size)
    expected = swin(images)
    with torch.inference_mode():
        found = swin(images)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel, stride, padding", [(1, 1, 0), (3, 1, 1), (3, 2, 0), (1, 1, "same"), (5, 1, "valid")])
def test_one_small_image_is_convolved_by_onednn_without_gradients(
    monkeypatch: pytest.MonkeyPatch, kernel: int, stride: int, padding: int | str
) -> None:
    monkeypatch.setattr(products, "_LEAST_SMALL", 1)
    calls: list[int] = []
    convolve = torch.mkldnn_convolution

    def counted(*given):
        calls.append(1)
        return convolve(*given)

    monkeypatch.setattr(torch, "mkldnn_convolution", counted)
    torch.manual_seed(0)
    layer = products.Conv2d(6, 10, kernel, stride, padding)
    x = torch.randn(1, 6, 9, 7).contiguous(memory_format=torch.channels_last)
    expected = copy.deepcopy(layer).double()(x.double())
    with torch.no_grad():
        torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-5)
    assert len(calls) == (0 if isinstance(padding, str) else 1)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
