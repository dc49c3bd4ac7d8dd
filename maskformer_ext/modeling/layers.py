"""Small building blocks that several parts of the network share."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.modeling.products import conv2d

_MOST_FINE = 8  # times as fine as the coarsest feature map (stride 32) are the mask features (stride 4)


class Backbone(nn.Module):
    """A network that maps (B, 3, H, W) images to feature maps, finest first.

    Attributes:
        channels: of the feature maps.
        strides: of the feature maps.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]


def round_up(length: int, multiple: int) -> int:
    """Return the least multiple that is not below ``length``, in a form that `torch.export` can tell is a multiple."""
    return (length + multiple - 1) // multiple * multiple


class FrozenBatchNorm2d(nn.Module):
    """Apply a batch norm whose statistics and affine parameters never change.

    All four tensors are buffers, so no optimizer sees them. The normalisation is one multiply-add with a constant:
    unlike ``F.batch_norm`` it keeps no copy of its input for backward.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.activation = activation
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.scale_and_shift()
        scale, shift = scale.to(x.dtype).view(1, -1, 1, 1), shift.to(x.dtype).view(1, -1, 1, 1)
        x = torch.addcmul(shift, x, scale)
        return x if self.activation is None else self.activation(x)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return what a channel is multiplied by, and what is added to it then."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


class ConvNorm(nn.Conv2d):
    """A convolution that pads to keep its size, followed by a norm and, if asked, a ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        norm: nn.Module | None,
        stride: int = 1,
        dilation: int = 1,
        relu: bool = False,
    ) -> None:
        padding = dilation * (kernel_size // 2)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=norm is None)
        self.norm = norm
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.norm, FrozenBatchNorm2d) and self._folds(x):
            scale, shift = self.norm.scale_and_shift()
            x = conv2d(x, self.weight * scale.view(-1, 1, 1, 1), shift, self)
        else:
            x = conv2d(x, self.weight, self.bias, self)
            if self.norm is not None:
                x = self.norm(x)
        return F.relu_(x) if self.relu else x

    def _folds(self, x: Tensor) -> bool:
        """Return whether to scale the weights by a frozen norm: where they are fewer than the values it would scale."""
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return False
        places = x.numel() // (x.shape[1] * self.stride[0] * self.stride[1])
        return places > self.weight[0].numel()


class DropPath(nn.Module):
    """Zero the whole residual branch of some samples during training (stochastic depth), keeping its expectation."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(1.0 - self.rate)
        return x * (keep / (1.0 - self.rate))


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, num_layers: int) -> None:
        super().__init__()
        dims = [in_dim] + [hidden_dim] * (num_layers - 1) + [out_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class GroupNorm(nn.GroupNorm):
    """A group norm that also takes maps of a single cell, of tiny images: a group of one value becomes the bias.

    torch's refuses them, as it does for training, where such a group learns nothing.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def max_pool_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Take the maximum of the cells that each cell of a coarser (..., h, w) map touches, as adaptive pooling does.

    Args:
        x: (B, C, H, W), with at most `_MOST_FINE` times as many rows and columns as the result.
        size: height and width of the result.
    """
    if not torch.compiler.is_exporting():
        return F.adaptive_max_pool2d(x, size)
    # ONNX knows adaptive pooling for fixed sizes only
    return _max_pool_axis(_max_pool_axis(x, -1, size[1]), -2, size[0])


def _max_pool_axis(x: Tensor, dim: int, cells: int) -> Tensor:
    length, cell = x.shape[dim], torch.arange(cells, device=x.device)
    begin, end = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
    touched = torch.arange(_MOST_FINE + 2, device=x.device)[:, None] + begin
    index = torch.minimum(touched, end - 1)  # the last cell again, where fewer are touched
    parts = [x.index_select(dim, row) for row in index.unbind(0)]
    return torch.stack(parts).amax(0)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a group norm of 32 groups, or of the most below 32 that divide ``channels``."""
    return GroupNorm(math.gcd(32, channels), channels)


def init_unit_gain(module: nn.Conv2d) -> None:
    """Draw a convolution uniformly with variance 1 / fan_in and zero its bias."""
    nn.init.kaiming_uniform_(module.weight, a=1)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def init_he_fan_out(module: nn.Conv2d) -> None:
    """Draw a convolution from He's normal distribution over fan_out and zero its bias."""
    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if module.bias is not None:
        nn.init.zeros_(module.bias)
