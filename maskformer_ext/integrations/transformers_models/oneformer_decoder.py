"""The masked-attention decoder of transformers' OneFormer, without mask logits and attention weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models.layers import AuxiliaryLogits
from maskformer_ext.integrations.transformers_models.masked_attention import (
    AttendedPixels,
    as_blocked,
    can_skip_weights,
    cross_attention,
    is_attended,
)
from maskformer_ext.integrations.transformers_models.parts import is_swapped
from maskformer_ext.modeling.outputs import MaskFormerOutput
from maskformer_ext.ops.mask_dot import mask_dot


class QueryLayer(nn.Module):
    """Before ``OneFormerTransformerDecoderQueryTransformerDecoderLayer``, which attends to every pixel of the mask."""

    self_attn: Any
    multihead_attn: Any
    linear1: nn.Module
    linear2: nn.Module
    norm1: nn.Module
    norm2: nn.Module
    norm3: nn.Module
    dropout: nn.Module
    dropout1: nn.Module
    dropout2: nn.Module
    dropout3: nn.Module
    activation: Any

    def forward_post(
        self,
        output: Tensor,
        memory: Tensor,
        output_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        output_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
        query_pos: Tensor | None = None,
    ) -> Tensor:
        """Attend and transform, normalising after each step; arguments and result as in transformers."""
        masks = output_mask, memory_mask, output_key_padding_mask, memory_key_padding_mask
        if not self._can_skip_weights(masks):
            original: Any = super()
            return original.forward_post(output, memory, *masks, pos, query_pos)
        output = self.norm1(output + self.dropout1(self._among_queries(output, query_pos)))
        output = self.norm2(output + self.dropout2(self._to_pixels(output, memory, pos, query_pos)))
        return self.norm3(output + self.dropout3(self._feed_forward(output)))

    def forward_pre(
        self,
        output: Tensor,
        memory: Tensor,
        output_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        output_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
        query_pos: Tensor | None = None,
    ) -> Tensor:
        """Attend and transform, normalising before each step; arguments and result as in transformers."""
        masks = output_mask, memory_mask, output_key_padding_mask, memory_key_padding_mask
        if not self._can_skip_weights(masks):
            original: Any = super()
            return original.forward_pre(output, memory, *masks, pos, query_pos)
        output = output + self.dropout1(self._among_queries(self.norm1(output), query_pos))
        output = output + self.dropout2(self._to_pixels(self.norm2(output), memory, pos, query_pos))
        return output + self.dropout3(self._feed_forward(self.norm3(output)))

    def _can_skip_weights(self, masks: tuple[Tensor | None, ...]) -> bool:
        unmasked = all(mask is None for mask in masks)
        return unmasked and can_skip_weights(self.self_attn) and can_skip_weights(self.multihead_attn)

    def _among_queries(self, output: Tensor, query_pos: Tensor | None) -> Tensor:
        placed = _plus(output, query_pos)
        return cross_attention(self.self_attn, placed, placed, output)

    def _to_pixels(self, output: Tensor, memory: Tensor, pos: Tensor | None, query_pos: Tensor | None) -> Tensor:
        return cross_attention(self.multihead_attn, _plus(output, query_pos), _plus(memory, pos), memory)

    def _feed_forward(self, output: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(output))))


class CrossAttention(nn.Module):
    """Before ``OneFormerTransformerDecoderCrossAttentionLayer``, given the masks of `AttendedPixels`."""

    multihead_attn: Any
    norm: nn.Module
    dropout: nn.Module

    def forward_post(
        self,
        output: Tensor,
        memory: Tensor,
        memory_mask: Any = None,
        memory_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
        query_pos: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend, then normalise; arguments and result as in transformers, without weights for our masks."""
        if not is_attended(memory_mask):
            original: Any = super()
            return original.forward_post(output, memory, memory_mask, memory_key_padding_mask, pos, query_pos)
        attended = self._attend(output, memory, memory_mask, pos, query_pos)
        return self.norm(output + self.dropout(attended)), None

    def forward_pre(
        self,
        output: Tensor,
        memory: Tensor,
        memory_mask: Any = None,
        memory_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
        query_pos: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Normalise, then attend; arguments and result as in transformers, without weights for our masks."""
        if not is_attended(memory_mask):
            original: Any = super()
            return original.forward_pre(output, memory, memory_mask, memory_key_padding_mask, pos, query_pos)
        attended = self._attend(self.norm(output), memory, memory_mask, pos, query_pos)
        return output + self.dropout(attended), None

    def _attend(
        self, output: Tensor, memory: Tensor, mask: Tensor, pos: Tensor | None, query_pos: Tensor | None
    ) -> Tensor:
        return cross_attention(self.multihead_attn, _plus(output, query_pos), _plus(memory, pos), memory, mask)


class DecoderLayer(nn.Module):
    """Before ``OneFormerTransformerDecoderLayer``, given the masks of `AttendedPixels`."""

    cross_attn: Any
    self_attn: nn.Module
    ffn: nn.Module
    num_feature_levels: int

    def forward(
        self,
        index: int,
        output: Tensor,
        multi_stage_features: Any,
        multi_stage_positional_embeddings: Any,
        attention_mask: Any = None,
        query_embeddings: Tensor | None = None,
        output_attentions: bool | None = False,
    ) -> tuple[Tensor, ...]:
        """Attend and transform; arguments and result as in transformers."""
        mask, attention = attention_mask, self.cross_attn.multihead_attn
        skips = is_swapped(self.cross_attn) and can_skip_weights(attention) and not output_attentions
        if not is_attended(mask) or not skips:
            mask = as_blocked(mask, attention.num_heads) if is_attended(mask) else mask
            arguments = multi_stage_features, multi_stage_positional_embeddings, mask, query_embeddings
            return super().forward(index, output, *arguments, output_attentions)
        level = index % self.num_feature_levels
        output, _ = self.cross_attn(
            output,
            multi_stage_features[level],
            memory_mask=mask,
            pos=multi_stage_positional_embeddings[level],
            query_pos=query_embeddings,
        )
        output, _ = self.self_attn(output, query_pos=query_embeddings)
        return (self.ffn(output),)


class Decoder(nn.Module):
    """Before ``OneFormerTransformerDecoder``: masks of attention at the size of their level, logits on demand."""

    use_task_norm: bool
    use_auxiliary_loss: bool
    num_feature_levels: int
    layers: Any
    decoder_norm: nn.Module
    query_transformer: nn.Module
    query_input_projection: nn.Module
    class_embed: nn.Module
    mask_embed: nn.Module

    def forward(
        self,
        task_token: Any = None,
        multi_stage_features: Any = None,
        multi_stage_positional_embeddings: Any = None,
        mask_features: Any = None,
        query_features: Any = None,
        query_embeddings: Any = None,
        query_embedder: Any = None,
        size_list: Any = None,
        output_attentions: bool | None = None,
    ) -> Any:
        """Decode; arguments and result as in transformers, with `AuxiliaryLogits` for the inner layers."""
        if self.use_task_norm:
            task_token = self.decoder_norm(task_token)
        token = task_token if self.use_task_norm else None
        pixels = self.query_input_projection(mask_features)
        objects = self.query_transformer(query_features, None, query_embedder.weight[:-1], pixels, token)
        queries = torch.cat([objects[0].permute(1, 0, 2), task_token], dim=0)

        attended = AttendedPixels(mask_features, size_list)
        output = queries.clone()
        attentions: list[Any] = []
        predictions = [self._predict(output)]
        for index, layer in enumerate(self.layers):
            mask = attended.of(predictions[-1][1], index % self.num_feature_levels)
            output, *weights = layer(
                index=index,
                output=output,
                multi_stage_features=multi_stage_features,
                multi_stage_positional_embeddings=multi_stage_positional_embeddings,
                attention_mask=mask
                if is_swapped(layer)
                else as_blocked(mask, layer.cross_attn.multihead_attn.num_heads),
                query_embeddings=query_embeddings,
                output_attentions=output_attentions,
            )
            attentions.append(tuple(weights))
            predictions.append(self._predict(output))
        classes, embeddings = (torch.stack(rows) for rows in zip(*predictions, strict=True))
        auxiliary: Any = AuxiliaryLogits(MaskFormerOutput(classes, embeddings, mask_features))

        from transformers.models.oneformer import modeling_oneformer

        return modeling_oneformer.OneFormerTransformerDecoderOutput(
            object_queries=output.permute(1, 0, 2),
            contrastive_logits=queries.permute(1, 0, 2),
            prediction_masks=mask_dot(predictions[-1][1], mask_features),
            prediction_class=predictions[-1][0],
            auxiliary_predictions=auxiliary if self.use_auxiliary_loss else None,
            attentions=tuple(attentions),
        )

    def _predict(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits and mask embeddings of the queries."""
        states = self.decoder_norm(output).transpose(0, 1)
        return self.class_embed(states), self.mask_embed(states)


def _plus(states: Tensor, position: Tensor | None) -> Tensor:
    return states if position is None else states + position
