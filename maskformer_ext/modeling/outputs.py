"""What a network predicts, in the two forms that the criterion takes: mask embeddings, or mask logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskformer_ext.ops.mask_dot import mask_dot
from maskformer_ext.ops.matching_cost import matching_cost
from maskformer_ext.ops.matching_cost_from_embeddings import matching_cost_from_embeddings
from maskformer_ext.ops.pair_dot import pair_dot
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets


@dataclass
class MaskFormerOutput:
    """What the network predicts, for every supervised decoder layer; the last layer is the prediction.

    Attributes:
        class_logits: (L, B, Q, K + 1); the last column is "no object".
        mask_embed: (L, B, Q, C).
        mask_features: (B, C, h, w).
        boxes: (L, B, Q, 4) centre x, centre y, width, height in shares of the image, of a network that predicts them.
    """

    class_logits: Tensor
    mask_embed: Tensor
    mask_features: Tensor
    boxes: Tensor | None = None

    def mask_logits(self, layer: int = -1) -> Tensor:
        """Form the mask logits of one layer, (B, Q, h, w)."""
        return mask_dot(self.mask_embed[layer], self.mask_features)

    def matching_cost(self, targets: SegmentTargets | MaskTargets, **options: Any) -> Tensor:
        """Return the cost of every query and segment, (L, B, Q, T); options are ``matching_cost``'s."""
        return matching_cost_from_embeddings(self.class_logits, self.mask_embed, self.mask_features, targets, **options)

    def pair_logits(self, image: Tensor, query: Tensor, max_segments: int) -> Tensor:
        """Form the mask logits of the queries of pairs.

        Args:
            image: (P,) int64, the image of each pair, ascending, -1 at the end where there is none.
            query: (L, P) int64, its query in each layer, -1 where there is none.
            max_segments: at least the number of pairs of every image.

        Returns:
            (P, L, h, w).
        """
        rows = rows_of_pairs(self.mask_embed, image, query)
        return pair_dot(self.mask_embed.flatten(0, 2)[rows.T], self.mask_features, image, max_segments)

    def nonfinite_queries(self) -> Tensor:
        """Return which queries have a NaN or infinite prediction, (L, B, Q) bool."""
        # a sum is finite only if every term is
        bad_image = ~self.mask_features.sum((1, 2, 3), dtype=torch.float32).isfinite()
        bad_embed = ~self.mask_embed.isfinite().all(-1)
        return _nonfinite_classes(self.class_logits) | bad_embed | bad_image.view(1, -1, 1)


@dataclass
class DenseOutput:
    """The predictions of a network that hands out mask logits instead of embeddings.

    Attributes:
        class_logits: (L, B, Q, K + 1); the last column is "no object".
        masks: (L, B, Q, h, w) mask logits.
        boxes: as in ``MaskFormerOutput``.
    """

    class_logits: Tensor
    masks: Tensor
    boxes: Tensor | None = None

    def mask_logits(self, layer: int = -1) -> Tensor:
        """Return the mask logits of one layer, (B, Q, h, w)."""
        return self.masks[layer]

    def matching_cost(self, targets: SegmentTargets | MaskTargets, **options: Any) -> Tensor:
        """Return the cost of every query and segment, (L, B, Q, T); options are ``matching_cost``'s."""
        return matching_cost(self.class_logits, self.masks, targets, **options)

    def pair_logits(self, image: Tensor, query: Tensor, max_segments: int) -> Tensor:
        """Gather the mask logits of the queries of pairs, (P, L, h, w); arguments as in ``MaskFormerOutput``."""
        rows = rows_of_pairs(self.masks, image, query).T
        return self.masks.flatten(0, 2).index_select(0, rows.flatten()).unflatten(0, rows.shape)

    def nonfinite_queries(self) -> Tensor:
        """Return which queries have a NaN or infinite prediction, (L, B, Q) bool."""
        bad_mask = ~self.masks.sum((-2, -1), dtype=torch.float32).isfinite()
        return _nonfinite_classes(self.class_logits) | bad_mask


def query_boxes(out: MaskFormerOutput | DenseOutput) -> Tensor:
    """Return the boxes of an output.

    Raises:
        ValueError: if the network predicts none.
    """
    if out.boxes is None:
        raise ValueError(
            "criterion.matching=box needs predicted boxes, got an output without them: model.box_head=true"
        )
    return out.boxes


def rows_of_pairs(per_query: Tensor, image: Tensor, query: Tensor) -> Tensor:
    """Return the row of each pair in (L * B * Q, ...), (L, P); some row where there is no pair."""
    layers, batch, queries = per_query.shape[:3]
    layer = torch.arange(layers, device=image.device).unsqueeze(1)
    return (layer * batch + image.clamp(min=0)) * queries + query.clamp(min=0)


def _nonfinite_classes(class_logits: Tensor) -> Tensor:
    """Return which queries have a NaN or +inf class logit; -inf is legal (a masked class)."""
    return (class_logits.isnan() | (class_logits == torch.inf)).any(-1)
