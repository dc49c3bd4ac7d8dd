"""What all deformable attention of transformers shares: the call of ``ms_deform_attn`` and the dtype of its result."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.ops.ms_deform_attn import ms_deform_attn


def sample(value: Tensor, shapes: Any, locations: Tensor, weights: Tensor, **options: Any) -> Tensor:
    """Call the op; the dtype of the result is the one that ``grid_sample``, product and sum have in transformers.

    In half precision, ours scales locations to cells in float32; transformers does it in the dtype of the locations.
    """
    dtype = torch.promote_types(torch.promote_types(value.dtype, locations.dtype), weights.dtype)
    if not value.is_meta and torch.is_autocast_enabled(value.device.type):
        dtype = torch.promote_types(dtype, torch.float32)
    return ms_deform_attn(value, shapes, locations, weights, **options).to(dtype)


class Sampling(nn.Module):
    """Before `MultiScaleDeformableAttention`, which has neither weights nor settings."""

    def forward(
        self,
        value: Tensor,
        value_spatial_shapes: Any,
        value_spatial_shapes_list: Any,
        level_start_index: Any,
        sampling_locations: Tensor,
        attention_weights: Tensor,
        im2col_step: int,
    ) -> Tensor:
        """Sample; arguments and result as in transformers."""
        return sample(value, value_spatial_shapes_list, sampling_locations, attention_weights)
