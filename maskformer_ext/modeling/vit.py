"""Plain vision transformers of timm as backbones: one map of tokens, made into a feature pyramid."""

from __future__ import annotations

from typing import Any

import timm
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from maskformer_ext.errors import UserError, why
from maskformer_ext.modeling.layers import Backbone

_STRIDE = 16  # of the tokens in the image, whatever the size of the patches


class SimpleFeaturePyramid(Backbone):
    """Turn the last token map of a plain vision transformer into maps at strides 4, 8, 16 and 32.

    Source: "Exploring Plain Vision Transformer Backbones for Object Detection", section 3.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, name: str, dim: int) -> None:
        """Create the network.

        Args:
            name: timm's name of a vision transformer.
            dim: channels of the pyramid.

        Raises:
            UserError: if the transformer does not take images of any size.
        """
        super().__init__()
        try:
            net: Any = timm.create_model(name, num_classes=0, global_pool="", dynamic_img_size=True)
        except TypeError as error:
            raise UserError(f"model.backbone={name!r} takes images of one size only: {why(error)}") from error
        self.net = net
        self.patch = net.feature_info[-1]["reduction"]
        self.channels = (dim,) * len(self.strides)
        width = net.embed_dim
        finer = [nn.ConvTranspose2d(width, width // 2, 2, stride=2), LayerNorm2d(width // 2), nn.GELU()]
        finest = nn.ConvTranspose2d(width // 2, width // 4, 2, stride=2)
        self.levels = nn.ModuleList(
            [
                nn.Sequential(*finer, finest, *_merge(width // 4, dim)),
                nn.Sequential(nn.ConvTranspose2d(width, width // 2, 2, stride=2), *_merge(width // 2, dim)),
                nn.Sequential(*_merge(width, dim)),
                nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), *_merge(width, dim)),
            ]
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) images to features (B, dim, ceil(H / stride_i), ceil(W / stride_i))."""
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % _STRIDE, 0, -height % _STRIDE))
        if self.patch != _STRIDE:  # as many tokens as patches of 16 would give
            size = [side // _STRIDE * self.patch for side in images.shape[-2:]]
            images = F.interpolate(images, size=size, mode="bilinear", antialias=self.patch < _STRIDE)
        tokens = self.net.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)[-1]
        return [
            level(tokens)[..., : -(-height // stride), : -(-width // stride)]
            for level, stride in zip(self.levels, self.strides, strict=True)
        ]


def is_plain(reductions: list[int]) -> bool:
    """Return whether a network, by the strides of its feature maps, keeps one size from its patches on."""
    return len(set(reductions)) == 1


def _merge(in_channels: int, dim: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, dim, 1, bias=False),
        LayerNorm2d(dim),
        nn.Conv2d(dim, dim, 3, padding=1, bias=False),
        LayerNorm2d(dim),
    ]
