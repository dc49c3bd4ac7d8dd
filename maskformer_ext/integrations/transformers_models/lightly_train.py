"""EoMT of lightly-train, whose loss is a subclass of transformers' Mask2Former loss: what is replaced in a model."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models import mask2former
from maskformer_ext.integrations.transformers_models.eomt_upscale import UPSCALE_BY, upscale_and_filter
from maskformer_ext.integrations.transformers_models.parts import Part, is_swapped
from maskformer_ext.integrations.transformers_models.point_loss import PointLossOptions, point_losses
from maskformer_ext.integrations.transformers_models.targets import make_targets
from maskformer_ext.modeling.outputs import DenseOutput


class Loss(nn.Module):
    """Before ``MaskClassificationLoss``: all images in one call per layer."""

    matcher: Any

    @torch.compiler.disable
    def forward(
        self, masks_queries_logits: Tensor, targets: Any, class_queries_logits: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute the losses of one layer; arguments and result as in lightly-train, unweighted."""
        labels = [target["labels"].long() for target in targets]
        segments = None
        if class_queries_logits is not None and is_swapped(self.matcher):
            segments = make_targets([target["masks"] for target in targets], labels)
        if class_queries_logits is None or segments is None:
            return super().forward(masks_queries_logits, targets, class_queries_logits)
        counts = [len(row) for row in labels]
        num_masks = _matched(counts, class_queries_logits)
        prediction = DenseOutput(class_queries_logits[None], masks_queries_logits[None])
        losses = point_losses(prediction, segments, counts, num_masks, PointLossOptions.of(self), [0])
        return {name: loss[0].clone() for name, loss in losses.items()}


def _matched(counts: list[int], class_logits: Tensor) -> Tensor:
    """Return the number of matched segments per process, at least 1."""
    number = sum(min(count, class_logits.shape[1]) for count in counts)
    matched = torch.as_tensor(number, dtype=torch.float, device=class_logits.device)
    if not (dist.is_available() and dist.is_initialized()):
        return matched.clamp(min=1)
    dist.all_reduce(matched)
    return (matched / dist.get_world_size()).clamp(min=1)


class ScaleBlock(nn.Module):
    """Before ``ScaleBlock``: backward computes the activation again instead of keeping it."""

    conv1: nn.Module
    act: nn.Module
    conv2: nn.Module
    norm: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Double height and width; argument and result as in lightly-train."""
        filtered = upscale_and_filter(x, self.conv1, self.act, self.conv2)
        return super().forward(x) if filtered is None else self.norm(filtered)


MODEL_PARTS = (
    Part(
        ("MaskClassificationLoss",),
        Loss,
        "all images in one call per layer: point_matching_cost, linear_sum_assignment, uncertain_points, "
        "point_mask_loss",
        mask2former.LOSS_NEEDS,
        package="lightly_train",
    ),
    Part(("ScaleBlock",), ScaleBlock, UPSCALE_BY, ("conv1", "act", "conv2", "norm"), package="lightly_train"),
)
