"""Which query learns which segment: bipartite matching by masks or by boxes, or one query per class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.modeling.boxes import box_distance, segment_boxes
from maskformer_ext.modeling.outputs import DenseOutput, MaskFormerOutput, query_boxes
from maskformer_ext.ops.linear_sum_assignment import linear_sum_assignment
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets


class HungarianMatcher(nn.Module):
    """Find, for all images and decoder layers at once, the query of every segment at the least total cost.

    Source: MaskFormer (arXiv 2107.06278), section 3.3.
    """

    def __init__(
        self,
        *,
        class_weight: float = 1.0,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
        ignore_void: bool = False,
    ) -> None:
        """Create the matcher with the arguments of ``matching_cost`` (its ``focal_weight`` is ``mask_weight``)."""
        super().__init__()
        self.options: dict[str, Any] = {
            "class_weight": class_weight,
            "focal_weight": mask_weight,
            "dice_weight": dice_weight,
            "alpha": alpha,
            "gamma": gamma,
            "ignore_void": ignore_void,
        }

    @torch.no_grad()
    def forward(self, out: MaskFormerOutput | DenseOutput, targets: SegmentTargets | MaskTargets) -> Tensor:
        """Match.

        Args:
            out: the predictions of L layers for B images.
            targets: the segments of the B images.

        Returns:
            (L, B, T) int64, the query of each segment; -1 for padding and for what stays unmatched where T > Q.
        """
        return linear_sum_assignment(out.matching_cost(targets, **self.options), targets.num_segments)


class BoxMatcher(nn.Module):
    """Match as `HungarianMatcher`, with the cost of class and box instead of class and mask.

    Source: "End-to-End Object Detection with Transformers" (arXiv 2005.12872), section 3.1; MaskFormer (arXiv
    2107.06278), section 4.3, compares with it.
    """

    def __init__(self, *, class_weight: float = 1.0, box_weight: float = 5.0, giou_weight: float = 2.0) -> None:
        """Create the matcher with the factors of the class, of the difference and of the generalised IoU."""
        super().__init__()
        self.class_weight, self.box_weight, self.giou_weight = class_weight, box_weight, giou_weight

    @torch.no_grad()
    def forward(self, out: MaskFormerOutput | DenseOutput, targets: SegmentTargets | MaskTargets) -> Tensor:
        """Match; arguments and result as `HungarianMatcher.forward`'s, and ``out`` has boxes."""
        layers, batch, queries, columns = out.class_logits.shape
        label = targets.labels.clamp(0, columns - 2)[:, None].expand(layers, batch, queries, -1)
        class_cost = -out.class_logits.float().softmax(-1).gather(-1, label)
        difference, disjoint = box_distance(query_boxes(out).unsqueeze(-2), segment_boxes(targets)[:, None])
        cost = self.class_weight * class_cost + self.box_weight * difference + self.giou_weight * disjoint
        return linear_sum_assignment(cost, targets.num_segments)


class FixedMatcher(nn.Module):
    """Match every segment with the query whose number is its class: for semantic targets, one segment per class.

    Source: MaskFormer (arXiv 2107.06278), section 4.3, the variant with fixed matching.
    """

    @torch.no_grad()
    def forward(self, out: MaskFormerOutput | DenseOutput, targets: SegmentTargets | MaskTargets) -> Tensor:
        """Match; arguments and result as `HungarianMatcher.forward`'s."""
        layers, _, queries = out.class_logits.shape[:3]
        labels = targets.labels
        segment = torch.arange(labels.shape[1], device=labels.device)
        exists = (segment < targets.num_segments.unsqueeze(1)) & (labels >= 0) & (labels < queries)
        return torch.where(exists, labels, -1).expand(layers, -1, -1)
