"""Pixel decoders: from backbone features to one embedding per pixel, at the finest backbone stride."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.modeling.layers import ConvNorm, group_norm, init_unit_gain
from maskformer_ext.modeling.position_encoding import FOURIER_FREQUENCIES, add_positions
from maskformer_ext.modeling.transformer import TransformerEncoder


class FPNPixelDecoder(nn.Module):
    """Merge features from coarse to fine and project the finest map to mask features.

    Source: "Per-Pixel Classification is Not All You Need for Semantic Segmentation", section 3.4 and appendix.
    """

    def __init__(self, in_channels: Sequence[int], dim: int, mask_dim: int, *, mask_position: bool = False) -> None:
        """Create the decoder.

        Args:
            in_channels: channels of the backbone features, finest first.
            dim: channels of the decoder.
            mask_dim: channels of the mask features.
            mask_position: add a projected position encoding to the finest map, so that a mask embedding can ask for a
                place. Convolutions know positions only from the zeros around the image. Objects that look alike are
                then told apart late in training.
        """
        super().__init__()
        *finer, coarsest = in_channels
        self.adapters = nn.ModuleList(ConvNorm(c, dim, 1, norm=group_norm(dim)) for c in finer)
        self.layers = nn.ModuleList(
            ConvNorm(c, dim, 3, norm=group_norm(dim), relu=True) for c in [dim] * len(finer) + [coarsest]
        )
        self.mask_features = nn.Conv2d(dim, mask_dim, kernel_size=3, padding=1)
        for module in (*self.adapters, *self.layers, self.mask_features):
            init_unit_gain(module)
        self.position_proj = nn.Conv2d(4 * FOURIER_FREQUENCIES, dim, kernel_size=1) if mask_position else None

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Merge features from coarse to fine.

        Args:
            features: (B, C_i, h_i, w_i) of every backbone level, finest first.

        Returns:
            The mask features (B, mask_dim, h_0, w_0), and the merged map (B, dim, h_i, w_i) of every level.
        """
        x = self.layers[-1](features[-1])
        merged = [x]
        for level in reversed(range(len(self.adapters))):
            lateral = self.adapters[level](features[level])
            x = self.layers[level](lateral + F.interpolate(x, size=lateral.shape[-2:], mode="nearest"))
            merged.insert(0, x)
        if self.position_proj is not None:
            x = add_positions(x, self.position_proj)
        return self.mask_features(x), merged


class TransformerEncoderPixelDecoder(nn.Module):
    """Encode the coarsest feature by a transformer, then merge as ``FPNPixelDecoder`` does."""

    def __init__(
        self,
        in_channels: Sequence[int],
        dim: int,
        mask_dim: int,
        *,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        feedforward_dim: int,
        dropout: float,
        mask_position: bool = False,
    ) -> None:
        super().__init__()
        self.input_proj = nn.Conv2d(in_channels[-1], hidden_dim, kernel_size=1)
        init_unit_gain(self.input_proj)
        self.encoder = TransformerEncoder(
            hidden_dim, num_layers=num_layers, num_heads=num_heads, feedforward_dim=feedforward_dim, dropout=dropout
        )
        self.fpn = FPNPixelDecoder([*in_channels[:-1], hidden_dim], dim, mask_dim, mask_position=mask_position)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mask features and the encoded coarsest map (B, hidden_dim, h, w), the decoder's memory."""
        encoded = self.encoder(self.input_proj(features[-1]))
        return self.fpn([*features[:-1], encoded])[0], encoded
