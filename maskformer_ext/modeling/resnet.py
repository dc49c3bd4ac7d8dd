"""ResNets as the original uses them: frozen batch norms, stride in the 3x3 convolutions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.modeling.layers import Backbone, ConvNorm, FrozenBatchNorm2d, init_he_fan_out

_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Bottleneck(nn.Module):
    """Three convolutions (1x1, 3x3, 1x1) added to their input."""

    def __init__(self, in_channels: int, channels: int, out_channels: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = _conv(in_channels, out_channels, 1, stride=stride, relu=False)
        self.conv1 = _conv(in_channels, channels, 1)
        self.conv2 = _conv(channels, channels, 3, stride=stride, dilation=dilation)
        self.conv3 = _conv(channels, out_channels, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x))


class Stem(nn.Module):
    """Bring images to stride 4: one 7x7 convolution, or three 3x3 ones, then a max-pool."""

    def __init__(self, out_channels: int, *, deep: bool) -> None:
        super().__init__()
        if deep:
            self.conv1 = _conv(3, out_channels // 2, 3, stride=2)
            self.conv2 = _conv(out_channels // 2, out_channels // 2, 3)
            self.conv3 = _conv(out_channels // 2, out_channels, 3)
        else:
            self.conv1 = _conv(3, out_channels, 7, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.children():
            x = conv(x)
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class ResNet(Backbone):
    """A bottleneck ResNet that returns its four stages.

    Source: "Deep Residual Learning for Image Recognition"; the deep stem and the dilated last stage are DeepLab's.
    """

    channels = (256, 512, 1024, 2048)
    strides = (4, 8, 16, 32)

    def __init__(self, depth: int, *, deep_stem: bool = False, last_dilations: tuple[int, ...] = (1, 1, 1)) -> None:
        """Create the network.

        Args:
            depth: 50 or 101.
            deep_stem: three 3x3 convolutions with 128 output channels instead of one 7x7 with 64.
            last_dilations: of the 3x3 convolutions in the blocks of the last stage.
        """
        super().__init__()
        in_channels = 128 if deep_stem else 64
        self.stem = Stem(in_channels, deep=deep_stem)
        for stage, (count, out_channels) in enumerate(zip(_BLOCKS[depth], self.channels, strict=True)):
            dilations = last_dilations if stage == 3 else (1,) * count
            blocks = []
            for block, dilation in enumerate(dilations):
                stride = 2 if block == 0 and stage > 0 else 1
                blocks.append(
                    Bottleneck(in_channels, out_channels // 4, out_channels, stride=stride, dilation=dilation)
                )
                in_channels = out_channels
            self.add_module(f"res{stage + 2}", nn.Sequential(*blocks))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) images to features (B, C_i, ceil(H / stride_i), ceil(W / stride_i))."""
        x = self.stem(images)
        features = []
        for stage in range(2, 6):
            x = self.get_submodule(f"res{stage}")(x)
            features.append(x)
        return features


def resnet50() -> ResNet:
    """R50."""
    return ResNet(50)


def resnet101() -> ResNet:
    """R101."""
    return ResNet(101)


def resnet101c() -> ResNet:
    """R101c: deep stem, last stage dilated by 1, 2, 4 (still at stride 32)."""
    return ResNet(101, deep_stem=True, last_dilations=(1, 2, 4))


def _conv(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, dilation: int = 1, relu: bool = True
) -> ConvNorm:
    conv = ConvNorm(
        in_channels,
        out_channels,
        kernel_size,
        norm=FrozenBatchNorm2d(out_channels),
        stride=stride,
        dilation=dilation,
        relu=relu,
    )
    init_he_fan_out(conv)
    return conv
