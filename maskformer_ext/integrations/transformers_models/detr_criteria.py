"""The criteria of transformers' detection models, on our ops: the same arguments and results.

Losses of classes and boxes are transformers' own code. Losses of masks resize or sample the logits inside the ops, and
read the segments where the labels have them. So neither is stored once more for every pair.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models.detr_masks import mask_targets, masks_known
from maskformer_ext.integrations.transformers_models.detr_matchers import BoxMatcher, Labels, Outputs, Pairs
from maskformer_ext.ops.matched_mask_loss import matched_mask_loss
from maskformer_ext.ops.point_mask_loss import point_mask_loss
from maskformer_ext.ops.uncertain_points import uncertain_points

_OVERSAMPLE, _IMPORTANCE = 3, 0.75  # what transformers has in its code


class _Criterion(nn.Module):
    """What stands before every criterion."""

    matcher: Any
    _get_source_permutation_idx: Any
    _get_target_permutation_idx: Any

    def pairs_of(self, indices: Pairs, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return image, query and object of every pair, (N,) each."""
        image, query = self._get_source_permutation_idx(indices)
        _, segment = self._get_target_permutation_idx(indices)
        return image.to(device), query.to(device), segment.to(device)


class Criterion(_Criterion):
    """Before the criteria whose masks, if they learn any, are compared at the labels' size.

    On a GPU, one call matches all layers.
    """

    def forward(self, outputs: Outputs, targets: Labels) -> dict[str, Tensor]:
        """Compute the losses; arguments and result as in transformers."""
        matcher = self.matcher
        if not isinstance(matcher, BoxMatcher) or not at_once(outputs["logits"]):
            return super().forward(outputs, targets)
        layers = [outputs, *outputs.get("auxiliary_outputs", ()), outputs.get("enc_outputs", {})]
        matcher.announce([layer for layer in layers if layer.get("logits") is not None])
        try:
            return super().forward(outputs, targets)
        finally:
            matcher.announce([])

    def loss_masks(self, outputs: Outputs, targets: Labels, indices: Pairs, num_boxes: Any) -> dict[str, Tensor]:
        """Compute focal and dice loss of the matched masks; arguments and result as in transformers.

        Masks of images of different sizes are padded with zeros, as there.
        """
        segments = mask_targets(self, targets, pad=True) if "pred_masks" in outputs else None
        if segments is None:
            original: Any = super()
            return original.loss_masks(outputs, targets, indices, num_boxes)
        masks = outputs["pred_masks"]
        image, query, segment = self.pairs_of(indices, masks.device)
        focal, dice = matched_mask_loss(masks[image, query], segments, image, segment)
        return {"loss_mask": focal.sum() / num_boxes, "loss_dice": dice.sum() / num_boxes}


class PointCriterion(_Criterion):
    """Before the criterion of RF-DETR, whose masks are compared at random points, in every layer.

    The matcher draws too. So layers are matched one by one: the random numbers keep their order.
    """

    mask_point_sample_ratio: int

    def forward(self, outputs: Outputs, targets: Labels) -> dict[str, Tensor]:
        """Compute the losses; arguments and result as in transformers."""
        with masks_known(self, self.matcher):
            return super().forward(outputs, targets)

    def loss_masks(self, outputs: Outputs, targets: Labels, indices: Pairs, num_boxes: Any) -> dict[str, Tensor]:
        """Compute cross-entropy and dice loss of the matched masks; arguments and result as in transformers."""
        segments = mask_targets(self, targets) if "pred_masks" in outputs else None
        pairs = sum(len(query) for query, _ in indices)
        if segments is None or pairs == 0:
            original: Any = super()
            return original.loss_masks(outputs, targets, indices, num_boxes)
        masks = outputs["pred_masks"]
        image, query, segment = self.pairs_of(indices, masks.device)
        logits = masks[image, query]
        height, width = logits.shape[-2:]
        points = max(height, height * width // self.mask_point_sample_ratio)
        uncertain = int(_IMPORTANCE * points)
        candidates = torch.rand(pairs, _OVERSAMPLE * points, 2, device=logits.device)
        chosen = [uncertain_points(logits, candidates, uncertain)]
        if points > uncertain:
            chosen.append(torch.rand(pairs, points - uncertain, 2, device=logits.device))
        entropy, dice = point_mask_loss(logits, segments, image, segment, torch.cat(chosen, 1), sampling="nearest")
        return {"loss_mask_ce": entropy.sum() / num_boxes, "loss_mask_dice": dice.sum() / num_boxes}


def at_once(logits: Tensor) -> bool:
    """Return whether layers are to be matched in one call; on a CPU it would only cost the copy that joins them."""
    return logits.device.type != "cpu"
