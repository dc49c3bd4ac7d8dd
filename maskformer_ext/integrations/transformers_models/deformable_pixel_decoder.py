"""Deformable attention in the pixel decoders of Mask2Former and OneFormer.

Transformers' own code sums sizes on the device and copies some to it, so a GPU is waited for in each layer. Here sizes
are Python integers throughout, where the version hands them over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models.deformable_sampling import sample
from maskformer_ext.integrations.transformers_models.formed_again import forming_again, with_recipe


class _PixelDecoder(nn.Module):
    """The pixel decoders of Mask2Former and OneFormer, which differ in their parameters only."""

    d_model: int
    n_heads: int
    n_levels: int
    n_points: int
    value_proj: nn.Module
    output_proj: nn.Module
    sampling_offsets: nn.Module
    attention_weights: nn.Module
    with_pos_embed: Any

    def _attend(
        self,
        queries: Tensor,
        cells: Tensor,
        ignored: Tensor | None,
        positions: Tensor | None,
        reference: Tensor,
        shapes: Any,
    ) -> tuple[Tensor, Tensor]:
        if positions is not None:
            placed = self.with_pos_embed(queries, positions)
            queries = with_recipe(placed, self.with_pos_embed, queries, positions)
        shapes = _sizes(shapes)
        with forming_again(cells):
            value = self.value_proj(cells)
        if ignored is not None and not _is_empty(ignored):
            value = value.masked_fill(ignored[..., None], 0.0)
        value = value.view(*cells.shape[:2], self.n_heads, self.d_model // self.n_heads)
        points = (*queries.shape[:2], self.n_heads, self.n_levels, self.n_points)
        with forming_again(queries):
            offsets = self.sampling_offsets(queries).view(*points, 2)
            weights = self.attention_weights(queries).view(*points[:3], -1)
        weights = weights.softmax(-1).view(points)
        if reference.shape[-1] == 2:
            locations = _move(reference[:, :, None, :, None], offsets, _width_and_height(shapes, reference.device))
        elif reference.shape[-1] == 4:
            corner, size = reference[:, :, None, :, None].split(2, -1)
            locations = corner + offsets / self.n_points * size * 0.5
        else:
            raise ValueError(f"reference_points must have 2 or 4 numbers each, got {reference.shape[-1]}")
        return self.output_proj(sample(value, shapes, locations, weights)), weights


def _is_empty(ignored: Tensor) -> bool:
    """Return whether no cell is ignored; False also where looking would wait for a device."""
    return ignored.device.type == "cpu" and not torch.compiler.is_compiling() and not ignored.any()


def _move(reference: Tensor, offsets: Tensor, size: Tensor) -> Tensor:
    """Return ``reference + offsets / size``, where its bits allow it without the quotient."""
    if reference.dtype == offsets.dtype and offsets.dtype in (torch.float32, torch.float64):
        return torch.addcdiv(reference, offsets, size.to(offsets.dtype))
    return reference + offsets / size


def _sizes(shapes: Any) -> Any:
    """Return sizes as integers. Versions that hand over a tensor only are waiting for it in any case."""
    return shapes.tolist() if isinstance(shapes, Tensor) else shapes


def _width_and_height(shapes: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return (L, 1, 2) integers. They are filled in on the device, since a copy from the host would wait."""
    sides = [torch.full((), side, dtype=torch.long, device=device) for h, w in shapes for side in (w, h)]
    return torch.stack(sides).view(-1, 1, 2)


class WithList(_PixelDecoder):
    """Mask2Former since 4.47."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        position_embeddings: Tensor | None = None,
        reference_points: Any = None,
        spatial_shapes_list: Any = None,
        level_start_index: Any = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Attend; arguments and result as in transformers."""
        return self._attend(
            hidden_states,
            encoder_hidden_states,
            attention_mask,
            position_embeddings,
            reference_points,
            spatial_shapes_list,
        )


class WithBoth(_PixelDecoder):
    """OneFormer: the sizes as a tensor, of late as a list too."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        position_embeddings: Tensor | None = None,
        reference_points: Any = None,
        spatial_shapes: Any = None,
        level_start_index: Any = None,
        output_attentions: bool = False,
        spatial_shapes_list: Any = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend; arguments and result as in transformers."""
        return self._attend(
            hidden_states,
            encoder_hidden_states,
            attention_mask,
            position_embeddings,
            reference_points,
            spatial_shapes if spatial_shapes_list is None else spatial_shapes_list,
        )


class WithTensor(_PixelDecoder):
    """Older Mask2Former: the sizes as a tensor, which transformers reads level by level."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        position_embeddings: Tensor | None = None,
        reference_points: Any = None,
        spatial_shapes: Any = None,
        level_start_index: Any = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Attend; arguments and result as in transformers."""
        return self._attend(
            hidden_states, encoder_hidden_states, attention_mask, position_embeddings, reference_points, spatial_shapes
        )
