"""EoMT of transformers, with DINOv2 and DINOv3: what is replaced in a model."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models import mask2former
from maskformer_ext.integrations.transformers_models.eomt_attention import (
    ATTENTION_PARTS,
    Attention,
    mask_of_all_rows,
    names_beside,
)
from maskformer_ext.integrations.transformers_models.eomt_upscale import UPSCALE_PARTS
from maskformer_ext.integrations.transformers_models.layers import AuxiliaryLogits
from maskformer_ext.integrations.transformers_models.parts import Part, is_swapped
from maskformer_ext.integrations.transformers_models.point_loss import PointMatcher
from maskformer_ext.integrations.transformers_models.targets import make_targets
from maskformer_ext.modeling.outputs import MaskFormerOutput
from maskformer_ext.ops.mask_dot import mask_dot


class Loss(mask2former.Loss):
    """Before ``EomtLoss`` and its copies, which are called once per layer.

    ``masks_queries_logits`` may also be the embeddings and features of that layer, as a `MaskFormerOutput`.
    """

    def forward(
        self,
        masks_queries_logits: Any,
        class_queries_logits: Tensor,
        mask_labels: Any,
        class_labels: Any,
        auxiliary_predictions: Any = None,
    ) -> dict[str, Tensor]:
        """Compute the losses; otherwise arguments and result as in transformers, unweighted."""
        classes, labels = class_queries_logits, (mask_labels, class_labels)
        if not isinstance(masks_queries_logits, MaskFormerOutput):
            return super().forward(masks_queries_logits, classes, *labels, auxiliary_predictions)
        losses = self.all_layers(classes, classes, *labels, AuxiliaryLogits(masks_queries_logits))
        if losses is None:
            return super().forward(masks_queries_logits.mask_logits(), classes, *labels)
        return losses


class Model(nn.Module):
    """Before ``EomtForUniversalSegmentation`` and its copy: mask logits of the last layer only.

    An inner layer hands its embeddings and features to the loss. Its queries attend by a boolean mask of their own
    rows. Without labels, its classes are not predicted.
    """

    config: Any
    layers: Any
    embeddings: Any
    layernorm: nn.Module
    query: nn.Embedding
    upscale_block: nn.Module
    mask_head: nn.Module
    class_predictor: nn.Module
    criterion: Any
    dropout: nn.Module
    rope_embeddings: nn.Module
    attn_mask_probs: Tensor
    grid_size: Any
    num_hidden_layers: int
    get_loss_dict: Any
    get_loss: Any
    _disable_attention_mask: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Decorate `forward` as transformers decorates its own: hidden states and attentions on demand."""
        super().__init_subclass__(**kwargs)
        _, names = names_beside(cls, _MODELS)
        forward: Any = Model.forward
        for decorator in ("check_model_inputs", "capture_outputs", "merge_with_config_defaults"):
            forward = names.get(decorator, lambda undecorated: undecorated)(forward)
        cls.forward = forward  # type: ignore[method-assign]

    def forward(
        self,
        pixel_values: Tensor,
        mask_labels: Any = None,
        class_labels: Any = None,
        patch_offsets: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Predict; arguments and result as in transformers, with the forms of ``mask_labels`` of `make_targets` too."""
        if pixel_values is None:
            raise ValueError("You have to specify pixel_values")
        labelled = mask_labels is not None and class_labels is not None
        inner = []
        tokens, extra = self._tokens(pixel_values)
        mask = None  # of a block without one of its own: that of the block before, as in transformers
        first = self.num_hidden_layers - self.config.num_blocks
        for index, layer in enumerate(self.layers):
            if index == first:
                query = self.query.weight[None].expand(len(tokens), -1, -1).to(tokens.device)
                tokens = torch.cat((query, tokens), dim=1)
            if index >= first and (self.training or self.attn_mask_probs[index - first] > 0):
                with torch.set_grad_enabled(labelled and torch.is_grad_enabled()):
                    inner.append(self._embed(self.layernorm(tokens), classes=labelled))
                mask = self._attention_mask(inner[-1], tokens.shape[1], self.attn_mask_probs[index - first])
            tokens = layer(tokens, self._for_layer(layer, mask, tokens), **extra)
            if not labelled:
                inner.clear()
        tokens = self.layernorm(tokens)
        last = self._embed(tokens)
        class_logits, mask_logits = last.class_logits[0], last.mask_logits()
        loss = None
        if labelled:
            inner.append(last)
            loss = self._loss(inner, mask_logits, mask_labels, class_labels)
        name, names = names_beside(type(self), _MODELS)
        return names[f"{name}Output"](
            loss=loss,
            masks_queries_logits=mask_logits,
            class_queries_logits=class_logits,
            last_hidden_state=tokens,
            patch_offsets=patch_offsets,
        )

    def predict(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask and class logits of a layer's normalised tokens."""
        layer = self._embed(logits)
        return layer.mask_logits(), layer.class_logits[0]

    def _tokens(self, pixel_values: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Return the tokens of the images, and what each layer takes besides."""
        tokens = self.embeddings(pixel_values)
        if not hasattr(self, "rope_embeddings"):
            return tokens, {}
        tokens = self.dropout(tokens)
        return tokens, {"position_embeddings": self.rope_embeddings(pixel_values.to(tokens.dtype))}

    def _embed(self, tokens: Tensor, *, classes: bool = True) -> MaskFormerOutput:
        """Predict what the logits of one layer are made of."""
        queries = tokens[:, : self.config.num_queries]
        patches = tokens[:, self.config.num_queries + self.embeddings.num_prefix_tokens :]
        features = self.upscale_block(patches.transpose(1, 2).unflatten(2, self.grid_size))
        class_logits = self.class_predictor(queries) if classes else queries[..., :0]
        return MaskFormerOutput(class_logits[None], self.mask_head(queries)[None], features)

    @torch.no_grad()
    def _attention_mask(self, layer: MaskFormerOutput, tokens: int, share: Tensor) -> Tensor:
        """Return where each query attends, (B, 1, Q, tokens) bool.

        Resizing is linear. So the features are resized, and no mask logit is stored.
        """
        small = F.interpolate(layer.mask_features, size=self.grid_size, mode="bilinear")
        seen = mask_dot(layer.mask_embed[0], small, activation="binary").flatten(2)
        batch, queries = seen.shape[:2]
        mask = torch.ones(batch, queries, tokens, dtype=torch.bool, device=seen.device)
        start = queries + self.embeddings.num_prefix_tokens
        mask[..., start:] = seen
        mask = self._disable_attention_mask(
            mask, prob=share, num_query_tokens=queries, encoder_start_tokens=start, device=seen.device
        )
        return mask[:, None]

    def _for_layer(self, layer: Any, mask: Tensor | None, tokens: Tensor) -> Tensor | None:
        """Return a mask as a layer's attention takes it: transformers' own takes one of all rows."""
        ours = isinstance(layer.attention, Attention) and "forward" not in vars(layer.attention)
        return mask if mask is None or ours else mask_of_all_rows(mask, tokens, self.config.num_attention_heads)

    def _loss(self, layers: list[MaskFormerOutput], mask_logits: Tensor, mask_labels: Any, class_labels: Any) -> Any:
        """Sum the weighted losses of all layers, in the order of transformers, in which its random points are drawn."""
        ours = isinstance(self.criterion, Loss) and is_swapped(self.criterion.matcher)
        targets = make_targets(mask_labels, class_labels) if ours else None
        loss: Any = 0.0
        for layer in layers:
            masks: Any = layer
            if targets is None:
                masks = mask_logits if layer is layers[-1] else layer.mask_logits()
            losses = self.get_loss_dict(
                masks_queries_logits=masks,
                class_queries_logits=layer.class_logits[0],
                mask_labels=mask_labels if targets is None else targets,
                class_labels=class_labels,
                auxiliary_predictions=None,
            )
            loss += self.get_loss(losses)
        return loss


_MODELS = ("EomtForUniversalSegmentation", "EomtDinov3ForUniversalSegmentation")
_LOSSES = ("EomtLoss", "EomtDinov3Loss")
_MATCHERS = ("EomtHungarianMatcher", "EomtDinov3HungarianMatcher")
_MODEL_NEEDS = (
    "layers",
    "embeddings",
    "layernorm",
    "query",
    "upscale_block",
    "mask_head",
    "class_predictor",
    "criterion",
    "attn_mask_probs",
    "grid_size",
)

MODEL_PARTS = (
    Part(_MODELS, Model, "mask logits of the last layer only, boolean masks of the queries' rows", needs=_MODEL_NEEDS),
    *ATTENTION_PARTS,
    *UPSCALE_PARTS,
    Part(
        _LOSSES,
        Loss,
        "all images in one call per layer" + mask2former.LOSS_BY.partition("call")[2],
        mask2former.LOSS_NEEDS,
    ),
    Part(_MATCHERS, PointMatcher, mask2former.MATCHER_BY, mask2former.MATCHER_NEEDS),
)
