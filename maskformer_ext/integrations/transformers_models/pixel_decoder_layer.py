"""The encoder layer in the pixel decoders of Mask2Former and OneFormer: backward normalises again, nearly for free."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models.formed_again import forming_again, normalize
from maskformer_ext.integrations.transformers_models.parts import Part


class _Layer(nn.Module):
    self_attn: nn.Module
    self_attn_layer_norm: nn.Module
    final_layer_norm: nn.Module
    fc1: nn.Module
    fc2: nn.Module
    activation_fn: Any
    dropout: float
    activation_dropout: float

    def _encode(self, hidden_states: Tensor, mask: Tensor | None, **attention: Any) -> tuple[Tensor, ...]:
        if attention["output_attentions"]:
            return super().forward(hidden_states, mask, **attention)
        attended, _ = self.self_attn(
            hidden_states=hidden_states,
            attention_mask=mask,
            encoder_hidden_states=hidden_states,
            encoder_attention_mask=mask,
            **attention,
        )
        hidden_states = normalize(self.self_attn_layer_norm, hidden_states + self._drop(attended, self.dropout))
        with forming_again(hidden_states):
            inner = self.fc1(hidden_states)
        inner = self._drop(self.activation_fn(inner), self.activation_dropout)
        outer = self._drop(self.fc2(inner), self.dropout)
        hidden_states = normalize(self.final_layer_norm, hidden_states + outer)
        if self._trains() and not _is_finite(hidden_states):
            largest = torch.finfo(hidden_states.dtype).max - 1000
            hidden_states = torch.clamp(hidden_states, min=-largest, max=largest)
        return (hidden_states,)

    def _drop(self, states: Tensor, share: float) -> Tensor:
        return F.dropout(states, p=share, training=self._trains())

    def _trains(self) -> bool:
        return getattr(self, "is_training", self.training)  # OneFormer decides by its configuration


def _is_finite(states: Tensor) -> bool:
    """Return whether all numbers are finite; a finite sum tells it without a map of the size of the states."""
    return bool(states.detach().sum().isfinite()) or bool(states.detach().isfinite().all())


class WithList(_Layer):
    """Mask2Former since 4.47."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        position_embeddings: Tensor | None = None,
        reference_points: Any = None,
        spatial_shapes_list: Any = None,
        level_start_index: Any = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, ...]:
        """Attend and transform; arguments and result as in transformers."""
        attention = {
            "position_embeddings": position_embeddings,
            "reference_points": reference_points,
            "spatial_shapes_list": spatial_shapes_list,
            "level_start_index": level_start_index,
            "output_attentions": output_attentions,
        }
        return self._encode(hidden_states, attention_mask, **attention)


class WithTensor(_Layer):
    """OneFormer, and Mask2Former before: the sizes as a tensor; of late as a list too."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        position_embeddings: Tensor | None = None,
        reference_points: Any = None,
        spatial_shapes: Any = None,
        level_start_index: Any = None,
        output_attentions: bool = False,
        spatial_shapes_list: Any = None,
    ) -> tuple[Tensor, ...]:
        """Attend and transform; arguments and result as in transformers."""
        attention = {
            "position_embeddings": position_embeddings,
            "reference_points": reference_points,
            "spatial_shapes": spatial_shapes,
            "level_start_index": level_start_index,
            "output_attentions": output_attentions,
        }
        if spatial_shapes_list is not None:  # older versions do not know it
            attention["spatial_shapes_list"] = spatial_shapes_list
        return self._encode(hidden_states, attention_mask, **attention)


_MASK2FORMER, _ONEFORMER = "Mask2FormerPixelDecoderEncoderLayer", "OneFormerPixelDecoderEncoderLayer"
_NEEDS = (
    *("self_attn", "self_attn_layer_norm", "final_layer_norm", "fc1", "fc2", "activation_fn"),
    *("dropout", "activation_dropout"),
)
_BY = "states normalised again in backward instead of kept"
MODEL_PARTS = (
    Part((_MASK2FORMER,), WithList, _BY, _NEEDS),
    Part((_MASK2FORMER, _ONEFORMER), WithTensor, _BY, _NEEDS),
)
