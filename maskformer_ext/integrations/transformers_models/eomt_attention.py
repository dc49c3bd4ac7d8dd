"""Attention of EoMT in transformers, where the queries are masked and the patches are not."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models.parts import Part


class Attention(nn.Module):
    """Before ``EomtAttention``: a mask may speak of the first rows only, and the others attend everywhere."""

    config: Any
    q_proj: nn.Module
    k_proj: nn.Module
    v_proj: nn.Module
    out_proj: nn.Module
    head_dim: int
    num_heads: int
    scale: float
    dropout: float

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        """Attend; arguments and result as in transformers, or with a boolean mask (B, 1, Q, S) of the first Q rows."""
        if not self._in_two_parts(hidden_states, attention_mask):
            mask = mask_of_all_rows(attention_mask, hidden_states, self.num_heads)
            return super().forward(hidden_states, attention_mask=mask, **kwargs)
        attended = attend_in_two_parts(*self._heads(hidden_states), attention_mask, self.scale)
        return self.out_proj(attended), None

    def _in_two_parts(self, hidden_states: Tensor, mask: Tensor | None) -> bool:
        """Return whether there is a mask of some rows, and an attention function that wants no more than that.

        With dropout, one call for all rows draws the numbers that transformers draws.
        """
        if mask is None or mask.shape[-2] == hidden_states.shape[1]:
            return False
        return self.config._attn_implementation == "sdpa" and not (self.training and self.dropout > 0)

    def _heads(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (B, heads, S, D) each."""
        query, key, value = (project(hidden_states) for project in (self.q_proj, self.k_proj, self.v_proj))
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        return query.view(shape).transpose(1, 2), key.view(shape).transpose(1, 2), value.view(shape).transpose(1, 2)


class RotaryAttention(Attention):
    """Before ``EomtDinov3Attention``: the same, with rotated queries and keys."""

    o_proj: nn.Module
    scaling: float

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_embeddings: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Attend; arguments and result as in transformers, or with a mask of the first rows, as in `Attention`."""
        if not self._in_two_parts(hidden_states, attention_mask):
            mask = mask_of_all_rows(attention_mask, hidden_states, self.num_heads)
            return super(Attention, self).forward(hidden_states, mask, position_embeddings, **kwargs)
        query, key, value = self._heads(hidden_states)
        _, names = names_beside(type(self), _ROTARY)
        query, key = names["apply_rotary_pos_emb"](query, key, *position_embeddings)
        return self.o_proj(attend_in_two_parts(query, key, value, attention_mask, self.scaling)), None


def attend_in_two_parts(query: Tensor, key: Tensor, value: Tensor, mask: Any, scale: float) -> Tensor:
    """Attend with a mask (B, 1, Q, S) in the first Q rows, and everywhere in the others.

    Each of the two calls gets the fastest kernel for it, and no mask of S x S exists.

    Returns:
        (B, S, heads * D).
    """
    rows = mask.shape[-2]
    masked = F.scaled_dot_product_attention(query[:, :, :rows], key, value, attn_mask=mask, scale=scale)
    others = F.scaled_dot_product_attention(query[:, :, rows:], key, value, scale=scale)
    return torch.cat((masked.transpose(1, 2), others.transpose(1, 2)), dim=1).flatten(2)


def mask_of_all_rows(mask: Tensor | None, tokens: Tensor, heads: int) -> Tensor | None:
    """Turn a mask of the first rows into the form of transformers, (B, heads, S, S) floats to add; keep any other."""
    length = tokens.shape[1]
    if mask is None or mask.shape[-2] == length:
        return mask
    hidden = tokens.new_zeros(len(mask), 1, length, length)
    hidden[:, :, : mask.shape[-2]].masked_fill_(~mask, torch.finfo(tokens.dtype).min)
    return hidden.expand(-1, heads, -1, -1)


def names_beside(cls: type, known: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Return which of some classes of transformers a class is, or comes from, and the names in that one's module."""
    base = next(base for base in cls.__mro__ if base.__name__ in known and base.__module__.startswith("transformers."))
    return base.__name__, vars(sys.modules[base.__module__])


_ROTARY = ("EomtDinov3Attention",)
_BY = "two calls of scaled_dot_product_attention: the queries with a boolean mask, the patches without"
ATTENTION_PARTS = (
    Part(
        ("EomtAttention",),
        Attention,
        _BY,
        needs=("q_proj", "k_proj", "v_proj", "out_proj", "head_dim", "num_heads", "scale", "dropout"),
    ),
    Part(
        _ROTARY,
        RotaryAttention,
        _BY,
        needs=("q_proj", "k_proj", "v_proj", "o_proj", "head_dim", "num_heads", "scaling", "dropout"),
    ),
)
