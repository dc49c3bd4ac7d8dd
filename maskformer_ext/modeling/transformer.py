"""Post-norm transformer layers, the encoder of the pixel decoder and the decoder that turns queries into segments."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.modeling.layers import init_unit_gain
from maskformer_ext.modeling.position_encoding import sine_position_encoding
from maskformer_ext.modeling.products import linear


class Attention(nn.Module):
    """Multi-head attention with one packed input projection (query, key, value)."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Attend from (B, N, C) queries to (B, M, C) keys and values where (B, N, M) ``allowed``; returns (B, N, C)."""
        mask = None if allowed is None else allowed.unsqueeze(1)
        weights = self.in_proj_weight.chunk(3)
        biases = self.in_proj_bias.chunk(3)
        q, k, v = (
            linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0)
        return self.out_proj(x.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """The two linear layers of a transformer block."""

    def __init__(self, dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(F.dropout(F.relu(self.linear1(x)), self.dropout, self.training))


class EncoderLayer(nn.Module):
    """Self-attention over the map's positions, then a feed-forward network; each added and normalised."""

    def __init__(self, dim: int, num_heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads, dropout)
        self.feed_forward = FeedForward(dim, feedforward_dim, dropout)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        with_position = x + position
        x = self.norm1(x + self.dropout(self.self_attn(with_position, with_position, x)))
        return self.norm2(x + self.dropout(self.feed_forward(x)))


class DecoderLayer(nn.Module):
    """Self-attention among queries, cross-attention to the memory, feed-forward; each added and normalised."""

    def __init__(self, dim: int, num_heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads, dropout)
        self.cross_attn = Attention(dim, num_heads, dropout)
        self.feed_forward = FeedForward(dim, feedforward_dim, dropout)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, query_embed: Tensor, memory: Tensor, memory_key: Tensor, attended: Tensor | None = None
    ) -> Tensor:
        query = x + query_embed
        x = self.norm1(x + self.dropout(self.self_attn(query, query, x)))
        x = self.norm2(x + self.dropout(self.cross_attn(x + query_embed, memory_key, memory, attended)))
        return self.norm3(x + self.dropout(self.feed_forward(x)))


class TransformerEncoder(nn.Module):
    """Post-norm encoder layers over the positions of one feature map, without a final norm."""

    def __init__(self, dim: int, *, num_layers: int, num_heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(dim, num_heads, feedforward_dim, dropout) for _ in range(num_layers))
        _init_matrices(self)

    def forward(self, feature: Tensor) -> Tensor:
        """Encode a (B, C, h, w) map; returns the same shape."""
        x, position = _flatten_with_position(feature)
        for layer in self.layers:
            x = layer(x, position)
        return x.transpose(1, 2).unflatten(2, feature.shape[-2:])


class TransformerDecoder(nn.Module):
    """Turn learned queries into one embedding per segment by attending to a feature map."""

    def __init__(
        self,
        in_channels: int,
        dim: int,
        *,
        num_queries: int,
        num_layers: int,
        num_heads: int,
        feedforward_dim: int,
        dropout: float,
        project_input: bool = True,
        query_init_std: float = 1.0,
        learned_input: bool = False,
    ) -> None:
        """Create the decoder.

        Args:
            in_channels: channels of the feature map.
            dim: width of the transformer.
            num_queries: Q.
            num_layers: L.
            num_heads: of every attention.
            feedforward_dim: hidden width of the feed-forward networks.
            dropout: of attention, feed-forward networks and residual branches.
            project_input: bring the feature map to ``dim`` by a 1x1 convolution; False where it has that width already.
            query_init_std: standard deviation of the query embeddings at the start.
            learned_input: start from a learned vector for each query instead of zeros. Queries then differ from the
                first step on, which shortens training a lot where many segments look alike (instances).
        """
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(dim, num_heads, feedforward_dim, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        _init_matrices(self)
        self.query_embed = nn.Embedding(num_queries, dim)
        nn.init.normal_(self.query_embed.weight, std=query_init_std)
        self.query_input: nn.Embedding | None = None
        if learned_input:
            self.query_input = nn.Embedding(num_queries, dim)
            nn.init.normal_(self.query_input.weight, std=query_init_std)
        self.input_proj: nn.Module = nn.Identity()
        if project_input:
            self.input_proj = nn.Conv2d(in_channels, dim, kernel_size=1)
            init_unit_gain(self.input_proj)

    def forward(self, feature: Tensor, attended: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Decode a feature map.

        Args:
            feature: (B, in_channels, h, w).
            attended: maps the (B, Q, dim) queries after one layer to (B, Q, h * w) bool. These are the positions that
                each may attend to in the next layer. The first layer attends to all; with None every layer does.

        Returns:
            The queries after every layer, (L, B, Q, dim).
        """
        memory, position = _flatten_with_position(self.input_proj(feature))
        memory_key = memory + position
        query_embed = self.query_embed.weight.expand(memory.shape[0], -1, -1).to(memory.dtype)
        if self.query_input is None:
            x = torch.zeros_like(query_embed)
        else:
            x = self.query_input.weight.expand(memory.shape[0], -1, -1).to(memory.dtype)
        outputs: list[Tensor] = []
        for layer in self.layers:
            allowed = attended(outputs[-1]) if attended and outputs else None
            x = layer(x, query_embed, memory, memory_key, allowed)
            outputs.append(self.norm(x))
        return torch.stack(outputs)


def _flatten_with_position(feature: Tensor) -> tuple[Tensor, Tensor]:
    """Return the map as (B, h * w, C) tokens and its position encoding as (1, h * w, C)."""
    _, channels, height, width = feature.shape
    position = sine_position_encoding(height, width, channels, device=feature.device, dtype=feature.dtype)
    return feature.flatten(2).transpose(1, 2), position.flatten(2).transpose(1, 2)


def _init_matrices(module: nn.Module) -> None:
    """Draw every matrix from Xavier's uniform distribution, as the original does in its transformers."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
