"""The masked-attention decoder of transformers' Mask2Former, without mask logits and attention weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models.layers import MaskLogits
from maskformer_ext.integrations.transformers_models.masked_attention import (
    AttendedPixels,
    Keys,
    as_blocked,
    can_skip_weights,
    cross_attention,
    is_attended,
    keys_of,
)
from maskformer_ext.integrations.transformers_models.parts import is_older_than, is_swapped


class DecoderLayer(nn.Module):
    """Before ``Mask2FormerMaskedAttentionDecoderLayer``, given the masks of `AttendedPixels`."""

    cross_attn: Any
    self_attn: nn.Module
    cross_attn_layer_norm: nn.Module
    self_attn_layer_norm: nn.Module
    final_layer_norm: nn.Module
    fc1: nn.Module
    fc2: nn.Module
    activation_fn: Any
    dropout: float
    activation_dropout: float

    def forward_post(
        self,
        hidden_states: Tensor,
        level_index: Any = None,
        attention_mask: Tensor | None = None,
        position_embeddings: Any = None,
        query_position_embeddings: Tensor | None = None,
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        output_attentions: bool | None = False,
    ) -> tuple[Tensor, ...]:
        """Attend and transform, normalising after each step; arguments and result as in transformers."""
        arguments = (level_index, attention_mask, position_embeddings, query_position_embeddings, encoder_hidden_states)
        mask = self._mask_of_transformers(encoder_attention_mask, output_attentions)
        if mask is not None or encoder_attention_mask is None:
            original: Any = super()
            return original.forward_post(hidden_states, *arguments, mask, output_attentions)
        pixels = keys_of(position_embeddings, encoder_hidden_states, level_index), encoder_hidden_states[level_index]
        attended = self._cross(hidden_states, query_position_embeddings, *pixels, encoder_attention_mask)
        hidden_states = self.cross_attn_layer_norm(hidden_states + attended)
        mixed = self._self(hidden_states, query_position_embeddings)
        hidden_states = self.self_attn_layer_norm(hidden_states + mixed)
        return (self.final_layer_norm(hidden_states + self._feed_forward(hidden_states)),)

    def forward_pre(
        self,
        hidden_states: Tensor,
        level_index: Any = None,
        attention_mask: Tensor | None = None,
        position_embeddings: Any = None,
        query_position_embeddings: Tensor | None = None,
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        output_attentions: bool | None = False,
    ) -> tuple[Tensor, ...]:
        """Attend and transform, normalising before each step; arguments and result as in transformers."""
        arguments = (level_index, attention_mask, position_embeddings, query_position_embeddings, encoder_hidden_states)
        mask = self._mask_of_transformers(encoder_attention_mask, output_attentions)
        if mask is not None or encoder_attention_mask is None:
            original: Any = super()
            return original.forward_pre(hidden_states, *arguments, mask, output_attentions)
        pixels = keys_of(position_embeddings, encoder_hidden_states, level_index), encoder_hidden_states[level_index]
        normal = self.cross_attn_layer_norm(hidden_states)
        hidden_states = hidden_states + self._cross(normal, query_position_embeddings, *pixels, encoder_attention_mask)
        normal = self.self_attn_layer_norm(hidden_states)
        hidden_states = hidden_states + self._self(normal, query_position_embeddings)
        return (hidden_states + self._feed_forward(self.final_layer_norm(hidden_states)),)

    def _mask_of_transformers(self, mask: Any, output_attentions: bool | None) -> Tensor | None:
        """Return the mask in transformers' form where its own code must run, else None."""
        if not is_attended(mask):
            return mask
        if output_attentions or not can_skip_weights(self.cross_attn):
            return as_blocked(mask, self.cross_attn.num_heads)
        return None

    def _cross(
        self, query: Tensor, query_position: Tensor | None, keys: Tensor, pixels: Tensor, mask: Tensor
    ) -> Tensor:
        placed = query if query_position is None else query + query_position
        return self._drop(cross_attention(self.cross_attn, placed, keys, pixels, mask))

    def _self(self, hidden_states: Tensor, query_position: Tensor | None) -> Tensor:
        return self._drop(self.self_attn(hidden_states=hidden_states, position_embeddings=query_position)[0])

    def _feed_forward(self, hidden_states: Tensor) -> Tensor:
        inner = self.activation_fn(self.fc1(hidden_states))
        inner = F.dropout(inner, p=self.activation_dropout, training=self.training)
        return self._drop(self.fc2(inner))

    def _drop(self, hidden_states: Tensor) -> Tensor:
        return F.dropout(hidden_states, p=self.dropout, training=self.training)


class Decoder(nn.Module):
    """Before ``Mask2FormerMaskedAttentionDecoder``: masks of attention at the size of their level, logits on demand."""

    config: Any
    layers: Any
    layernorm: nn.Module
    mask_predictor: Any
    layerdrop: float
    num_feature_levels: int

    def forward(
        self,
        inputs_embeds: Any = None,
        multi_stage_positional_embeddings: Any = None,
        pixel_embeddings: Any = None,
        encoder_hidden_states: Any = None,
        query_position_embeddings: Tensor | None = None,
        feature_size_list: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Decode; arguments as in transformers, and the result's mask logits are `MaskLogits`."""
        attentions_too = self.config.output_attentions if output_attentions is None else output_attentions
        states_too = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        embedder = self.mask_predictor.mask_embedder
        attended = AttendedPixels(pixel_embeddings, feature_size_list)
        positions = Keys(multi_stage_positional_embeddings, encoder_hidden_states)
        hidden_states = inputs_embeds
        states, attentions = [], []
        normal = [self.layernorm(hidden_states)]
        embeddings = [embedder(normal[0].transpose(0, 1))]
        for index, layer in enumerate(self.layers):
            states.append(hidden_states)
            if self._drops_layer():
                continue
            level = index % self.num_feature_levels
            mask = attended.of(embeddings[-1], level)
            outputs = layer(
                hidden_states,
                level,
                None,
                positions,
                query_position_embeddings,
                encoder_hidden_states,
                encoder_attention_mask=mask if is_swapped(layer) else as_blocked(mask, layer.cross_attn.num_heads),
                output_attentions=attentions_too,
            )
            hidden_states = outputs[0]
            normal.append(self.layernorm(hidden_states))
            embeddings.append(embedder(normal[-1].transpose(0, 1)))
            attentions += outputs[1:2]
        masks = MaskLogits(embeddings, pixel_embeddings)
        states.append(hidden_states)
        outputs = {
            "last_hidden_state": hidden_states.transpose(1, 0),
            "hidden_states": tuple(states) if states_too else None,
            "attentions": tuple(attentions) if attentions_too else None,
            "intermediate_hidden_states": tuple(normal),
            "masks_queries_logits": masks,
        }
        if not (self.config.return_dict if return_dict is None else return_dict):
            outputs["masks_queries_logits"] = tuple(masks)
            return tuple(value for value in outputs.values() if value is not None)
        from transformers.models.mask2former import modeling_mask2former

        return modeling_mask2former.Mask2FormerMaskedAttentionDecoderOutput(**outputs)

    def _drops_layer(self) -> bool:
        """Return whether to leave a layer out; a number is drawn where transformers draws one.

        Before 5.23 it draws one per layer, even if it drops none. A compiled graph leaves out those that nothing uses.
        """
        may_drop = self.training and self.layerdrop > 0.0
        if not may_drop and not is_older_than(5, 23):
            return False
        drawn = torch.rand([])
        return may_drop and bool(drawn < self.layerdrop)
