"""Swin transformers as the original uses them: any image size, fixed windows, a norm on every output."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.modeling.layers import Backbone, DropPath, round_up
from maskformer_ext.modeling.products import wants_channels_last

_PATCH = 4
_BETWEEN_REGIONS = -100.0  # added to the attention between tokens that the shift brought together


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows, with a learned bias for every relative position."""

    relative_position_index: Tensor

    def __init__(self, dim: int, window: int, num_heads: int) -> None:
        super().__init__()
        self.window = window
        self.num_heads = num_heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", _relative_position_index(window), persistent=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within windows.

        Args:
            x: (B * windows, N, C) tokens, N = window ** 2.
            mask: (windows, N, N) added to the attention of each window, or None.

        Returns:
            (B * windows, N, C).
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.unflatten(0, self.relative_position_index.shape).permute(2, 0, 1)
        if torch.is_grad_enabled() or torch.compiler.is_exporting():
            attention = (q * q.shape[-1] ** -0.5) @ k.mT + bias
            if mask is not None:
                attention = (attention.unflatten(0, (-1, mask.shape[0])) + mask.unsqueeze(1)).flatten(0, 1)
            x = attention.softmax(-1) @ v
        else:  # no fused attention has a gradient for its bias
            x = _attend_with_bias(q, k, v, bias, mask)
        return self.proj(x.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """Pre-norm window attention and MLP; every second block shifts its windows by half their size."""

    def __init__(self, dim: int, window: int, num_heads: int, *, shifted: bool, drop_path: float) -> None:
        super().__init__()
        self.window = window
        self.shift = window // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, 4 * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Update a (B, H, W, C) map; ``mask`` separates the regions that the shift brings together."""
        x = x + self.drop_path(self._attend(self.norm1(x), mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        _, height, width, _ = x.shape
        # the padding takes part in attention, as in the original
        padded = round_up(height, self.window), round_up(width, self.window)
        x = F.pad(x, (0, 0, 0, padded[1] - width, 0, padded[0] - height))
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        windows = self.attn(_to_windows(x, self.window), mask if self.shift else None)
        x = _from_windows(windows, self.window, padded)
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x[:, :height, :width]


class PatchMerging(nn.Module):
    """Join 2 x 2 neighbours: half the resolution, twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        _, height, width, _ = x.shape
        x = F.pad(x, (0, 0, 0, round_up(width, 2) - width, 0, round_up(height, 2) - height))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class SwinStage(nn.Module):
    """Blocks at one resolution, and the merging that leads to the next."""

    def __init__(self, dim: int, window: int, num_heads: int, *, drop_paths: Sequence[float], merge: bool) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            SwinBlock(dim, window, num_heads, shifted=index % 2 == 1, drop_path=rate)
            for index, rate in enumerate(drop_paths)
        )
        self.downsample = PatchMerging(dim) if merge else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the blocks on a (B, H, W, C) map; return it, and what the next stage starts from."""
        mask = _shift_mask(x.shape[1], x.shape[2], self.window, x.device, x.dtype)
        for block in self.blocks:
            x = block(x, mask)
        return x, x if self.downsample is None else self.downsample(x)


class PatchEmbed(nn.Module):
    """Cut images, padded to whole patches, into patches of 4 x 4 pixels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=_PATCH, stride=_PATCH)
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        right, bottom = round_up(width, _PATCH) - width, round_up(height, _PATCH) - height
        x = self.proj(F.pad(images, (0, right, 0, bottom)))
        return self.norm(x.permute(0, 2, 3, 1))


class Swin(Backbone):
    """A Swin transformer that returns the normalised output of its four stages.

    Source: "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows".
    """

    strides = (4, 8, 16, 32)

    def __init__(
        self, dim: int, depths: Sequence[int], num_heads: Sequence[int], *, window: int, drop_path: float
    ) -> None:
        """Create the network.

        Args:
            dim: channels at stride 4; they double from stage to stage.
            depths: number of blocks of each stage.
            num_heads: of each stage.
            window: side of the attention windows, in tokens.
            drop_path: rate of the last block; it rises linearly from 0.
        """
        super().__init__()
        self.channels = tuple(dim * 2**stage for stage in range(len(depths)))
        rising = (drop_path * block / max(sum(depths) - 1, 1) for block in range(sum(depths)))
        rates = [[next(rising) for _ in range(depth)] for depth in depths]
        self.patch_embed = PatchEmbed(dim)
        self.layers = nn.ModuleList(
            SwinStage(channels, window, heads, drop_paths=rate, merge=stage < len(depths) - 1)
            for stage, (channels, heads, rate) in enumerate(zip(self.channels, num_heads, rates, strict=True))
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in self.channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) images to features (B, C_i, ceil(H / stride_i), ceil(W / stride_i))."""
        x = self.patch_embed(images)
        features = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x, merged = layer(x)
            maps = norm(x).permute(0, 3, 1, 2)
            features.append(maps if wants_channels_last(maps) else maps.contiguous())
            x = merged
        return features


def swin_tiny(drop_path: float = 0.3) -> Swin:
    """Swin-T."""
    return Swin(96, (2, 2, 6, 2), (3, 6, 12, 24), window=7, drop_path=drop_path)


def swin_small(drop_path: float = 0.3) -> Swin:
    """Swin-S."""
    return Swin(96, (2, 2, 18, 2), (3, 6, 12, 24), window=7, drop_path=drop_path)


def swin_base(drop_path: float = 0.3) -> Swin:
    """Swin-B, windows of 12 as pre-trained at 384 x 384."""
    return Swin(128, (2, 2, 18, 2), (4, 8, 16, 32), window=12, drop_path=drop_path)


def swin_large(drop_path: float = 0.3) -> Swin:
    """Swin-L, windows of 12 as pre-trained at 384 x 384."""
    return Swin(192, (2, 2, 18, 2), (6, 12, 24, 48), window=12, drop_path=drop_path)


def _attend_with_bias(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """Attend without a matrix of weights; ``bias`` is (heads, N, N), and ``mask`` as `WindowAttention` takes it."""
    if mask is None:
        added = bias.unsqueeze(0)
    else:
        added = (bias + mask.unsqueeze(1)).repeat(len(q) // len(mask), 1, 1, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=added.to(q.dtype).expand(len(q), -1, -1, -1))


def _to_windows(x: Tensor, window: int) -> Tensor:
    """Cut a (B, H, W, C) map into (B * windows, window ** 2, C) tokens."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def _from_windows(windows: Tensor, window: int, size: Sequence[int]) -> Tensor:
    """Put (B * windows, window ** 2, C) tokens back into a (B, H, W, C) map."""
    x = windows.unflatten(1, (window, window)).unflatten(0, (-1, size[0] // window, size[1] // window))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _relative_position_index(window: int) -> Tensor:
    """Return the row of the bias table for each pair of tokens of a window, (window ** 2, window ** 2)."""
    token = torch.arange(window**2)
    row, column = token // window, token % window
    row_offset = row[:, None] - row[None, :] + window - 1
    column_offset = column[:, None] - column[None, :] + window - 1
    return row_offset * (2 * window - 1) + column_offset


def _shift_mask(height: int, width: int, window: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return what shifted windows add to their attention, (windows, window ** 2, window ** 2).

    After the shift the last window of an axis holds tokens from both of its ends, which must not see each other.
    """
    region = 3 * _regions(height, window, device)[:, None] + _regions(width, window, device)[None, :]
    tokens = _to_windows(region[None, :, :, None], window).squeeze(-1)
    return (tokens[:, :, None] != tokens[:, None, :]).to(dtype) * _BETWEEN_REGIONS


def _regions(length: int, window: int, device: torch.device) -> Tensor:
    """Number the parts of a shifted axis: whole windows, the rest of the last one, and what came from the other end."""
    padded = round_up(length, window)
    position = torch.arange(padded, device=device)
    return (position >= padded - window).long() + (position >= padded - window // 2).long()
