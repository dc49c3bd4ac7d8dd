"""Deformable attention of RT-DETRv2, D-FINE and DEIMv2: numbers of points per level, boxes, discrete sampling.

Reference points of two numbers, and a mask in D-FINE and DEIMv2, go through transformers' own code. It fails for them,
unless sizes happen to fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models.deformable_sampling import sample

_SAMPLINGS = {"default": "bilinear", "discrete": "discrete"}


class _Ragged(nn.Module):
    d_model: int
    n_heads: int
    offset_scale: float
    sampling_offsets: nn.Module
    attention_weights: nn.Module

    def _attend(
        self,
        queries: Tensor,
        value: Tensor,
        boxes: Tensor,
        shapes: Any,
        points: Sequence[int],
        scale: Tensor,
        method: str,
    ) -> tuple[Tensor, Tensor]:
        value = value.reshape(*value.shape[:2], self.n_heads, self.d_model // self.n_heads)
        sizes = (*queries.shape[:2], self.n_heads, sum(points))
        offsets = self.sampling_offsets(queries).reshape(*sizes, 2)
        weights = self.attention_weights(queries).reshape(sizes).softmax(-1)
        centre, size = boxes[:, :, None].split(2, -1)
        locations = centre + offsets * scale.to(queries.dtype)[:, None] * size * self.offset_scale
        sampling = _SAMPLINGS[method]
        if sampling == "discrete":  # no gradient, as in transformers, rather than one of zeros
            locations = locations.detach()
        return sample(value, shapes, locations, weights, points_per_level=points, sampling=sampling), weights


class _RTDetrV2(_Ragged):
    n_points_list: list[int]
    n_points_scale: Tensor
    method: str
    value_proj: nn.Module
    output_proj: nn.Module

    def _project(
        self,
        queries: Tensor,
        cells: Tensor,
        kept: Tensor | None,
        positions: Tensor | None,
        boxes: Tensor,
        shapes: Any,
    ) -> tuple[Tensor, Tensor]:
        if positions is not None:
            queries = queries + positions
        value = self.value_proj(cells)
        if kept is not None:
            value = value.masked_fill(~kept[..., None], 0.0)
        scale = self.n_points_scale
        attended, weights = self._attend(queries, value, boxes, shapes, self.n_points_list, scale, self.method)
        return self.output_proj(attended), weights


class RTDetrV2(_RTDetrV2):
    """RT-DETRv2 since 5.4."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        position_embeddings: Tensor | None = None,
        reference_points: Any = None,
        spatial_shapes: Any = None,
        spatial_shapes_list: Any = None,
        level_start_index: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Attend; arguments and result as in transformers."""
        if reference_points.shape[-1] != 4:
            return super().forward(
                hidden_states,
                attention_mask,
                encoder_hidden_states,
                encoder_attention_mask,
                position_embeddings,
                reference_points,
                spatial_shapes,
                spatial_shapes_list,
                level_start_index,
                **kwargs,
            )
        return self._project(
            hidden_states,
            encoder_hidden_states,
            attention_mask,
            position_embeddings,
            reference_points,
            spatial_shapes_list,
        )


class RTDetrV2WithOutputAttentions(RTDetrV2):
    """RT-DETRv2 before 5.4."""

    def forward(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        position_embeddings: Tensor | None = None,
        reference_points: Any = None,
        spatial_shapes: Any = None,
        spatial_shapes_list: Any = None,
        level_start_index: Any = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Attend; arguments and result as in transformers."""
        return super().forward(
            hidden_states,
            attention_mask,
            encoder_hidden_states,
            encoder_attention_mask,
            position_embeddings,
            reference_points,
            spatial_shapes,
            spatial_shapes_list,
            level_start_index,
        )


class DFine(_Ragged):
    """D-FINE and DEIMv2 since 5.4."""

    num_points_list: list[int]
    num_points_scale: Tensor
    decoder_method: str

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        reference_points: Any = None,
        encoder_hidden_states: Any = None,
        spatial_shapes: Any = None,
        spatial_shapes_list: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Attend; arguments and result as in transformers."""
        if attention_mask is not None or reference_points.shape[-1] != 4:
            return super().forward(
                hidden_states,
                attention_mask,
                reference_points,
                encoder_hidden_states,
                spatial_shapes,
                spatial_shapes_list,
                **kwargs,
            )
        return self._attend(
            hidden_states,
            encoder_hidden_states,
            reference_points,
            spatial_shapes_list,
            self.num_points_list,
            self.num_points_scale,
            self.decoder_method,
        )


class DFineWithoutOptions(DFine):
    """D-FINE before 5.4."""

    def forward(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        reference_points: Any = None,
        encoder_hidden_states: Any = None,
        spatial_shapes: Any = None,
        spatial_shapes_list: Any = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend; arguments and result as in transformers."""
        return super().forward(
            hidden_states,
            attention_mask,
            reference_points,
            encoder_hidden_states,
            spatial_shapes,
            spatial_shapes_list,
        )
