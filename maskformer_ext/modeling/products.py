"""Matrix products of linear layers and 1x1 convolutions on a CPU, by the library that is fast there."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEAST_PRODUCTS = 1 << 23  # multiply-adds; below, the cost of a call outweighs what is gained
_LEAST_SMALL = 1 << 22  # likewise of a small image; 3x3 kernels gain a little earlier
_MOST_SMALL = 20480  # values of one image; up to here torch's rule says so

_T = TypeVar("_T", bound=nn.Module)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `F.linear`, computed by oneDNN where torch would take a slower library.

    torch multiplies float32 matrices by MKL, which has AVX-512 for Intel's processors only. oneDNN has it for all.
    Its product is within reach as a 1x1 convolution over a map that holds a token in each cell.

    Args:
        x: (..., in) tokens.
        weight: (out, in).
        bias: (out,) or None.
    """
    if not _takes_onednn(x) or x.numel() * len(weight) < _LEAST_PRODUCTS:
        return F.linear(x, weight, bias)
    cells = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # (1, in, 1, tokens), channels last
    if torch.is_grad_enabled() and _is_small(cells):
        return F.linear(x, weight, bias)
    products = _pointwise(cells, weight[:, :, None, None], bias)
    return products.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, conv: nn.Conv2d) -> Tensor:
    """Return the convolution of ``conv`` with these weights, by oneDNN where torch would take a slower library.

    With one thread and fewer than 16 images torch hands 1x1 convolutions to MKL. One small image it convolves by code
    of its own, which unfolds it first.
    """
    if not _takes_onednn(x) or conv.groups != 1:  # first, for sizes may be symbols while a program is formed
        return conv._conv_forward(x, weight, bias)
    places = x.numel() // max(1, x.shape[1] * conv.stride[0] * conv.stride[1])
    products = places * weight.numel()
    if _is_small(x):
        if products >= _LEAST_SMALL and _pads_zeros(conv) and not torch.is_grad_enabled():
            padding: Any = conv.padding
            weight = weight.contiguous(memory_format=torch.channels_last)  # oneDNN may take six times as long to do so
            return torch.mkldnn_convolution(x, weight, bias, padding, conv.stride, conv.dilation, 1)
    elif products >= _LEAST_PRODUCTS and conv.kernel_size == (1, 1) and conv.stride == (1, 1) and _is_plain(conv):
        return _pointwise(x, weight, bias)
    return conv._conv_forward(x, weight, bias)


def channels_last(images: Tensor) -> Tensor:
    """Return images (B, C, H, W) whose channels lie side by side on a CPU, as its convolutions want them.

    Whatever follows keeps this order, so that nothing is copied from one into the other.
    """
    return images.contiguous(memory_format=torch.channels_last) if wants_channels_last(images) else images


def wants_channels_last(x: Tensor) -> bool:
    """Return whether maps on the device of ``x`` keep the channels of a cell side by side."""
    return x.device.type == "cpu" and not torch.compiler.is_exporting()


class Linear(nn.Linear):
    """A linear layer by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class Conv2d(nn.Conv2d):
    """A convolution by `conv2d`."""

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, self)


def use_fast_products(network: _T) -> _T:
    """Let every linear layer and convolution below a network take the faster library.

    Modules, parameters and their names stay the same; only ``forward`` differs. Subclasses of torch's layers stay as
    they are.
    """
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear
        elif type(module) is nn.Conv2d:
            module.__class__ = Conv2d
    return network


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve with (out, in, 1, 1) weights by oneDNN, forward and backward.

    Dilation means nothing to a kernel of one cell. But torch leaves every dilated convolution to oneDNN, unless the
    input is small.
    """
    if not torch.is_grad_enabled():
        return torch.mkldnn_convolution(x, weight, bias, [0, 0], [1, 1], [1, 1], 1)
    return F.conv2d(x, weight, bias, dilation=2)


def _is_small(x: Tensor) -> bool:
    """Return whether torch leaves this input to oneDNN for large kernels alone, whatever is asked of it."""
    return x.shape[0] == 1 and 0 < x.numel() <= _MOST_SMALL


def _pads_zeros(conv: nn.Conv2d) -> bool:
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _is_plain(conv: nn.Conv2d) -> bool:
    return conv.padding in ((0, 0), "valid", "same")


def _takes_onednn(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.compiler.is_compiling()  # a compiler knows what to do, and a program shall stay plain
        and not torch.is_autocast_enabled("cpu")  # in bfloat16 torch takes oneDNN by itself
        and bool(torch.backends.mkldnn.enabled)
        and _lacks_mkl()
    )


@cache
def _lacks_mkl() -> bool:
    """Return whether this is an x86 processor that MKL has no AVX-512 for: any but Intel's."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.cpu, "get_capabilities"):
        return False
    facts = torch.cpu.get_capabilities()
    name = str(facts.get("cpu_name", "intel")).lower()
    return bool(facts.get("architecture") == "x86_64" and "intel" not in name)
