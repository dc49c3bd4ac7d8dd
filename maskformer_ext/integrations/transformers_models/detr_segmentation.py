"""The mask head of transformers' DETR: what all queries of an image share is computed once per image."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models.parts import Part


class MaskHead(nn.Module):
    """Before ``DetrMaskHeadSmallConv`` and its copy in Conditional DETR: features are not repeated for every query.

    A convolution of features and attention maps is the sum of two, and only the second differs between queries. So do
    the adapters of the backbone's features not depend on the query.
    """

    conv1: Any
    conv2: nn.Module
    fpn_stages: Any
    output_conv: nn.Module

    def forward(self, features: Tensor, attention_masks: Tensor, fpn_features: list[Tensor]) -> Tensor:
        """Predict masks; arguments and result as in transformers."""
        if not _is_plain(self.conv1.conv):
            return super().forward(features, attention_masks, fpn_features)
        shared_weight, own_weight = self.conv1.conv.weight.split((features.shape[1], attention_masks.shape[2]), 1)
        shared = F.conv2d(features, shared_weight, self.conv1.conv.bias, padding=1)
        own = F.conv2d(attention_masks.flatten(0, 1), own_weight, padding=1)
        hidden = self.conv2(self.conv1.activation(self.conv1.norm(_add_shared(own, shared))))
        for stage, level in zip(self.fpn_stages, fpn_features, strict=False):
            adapted = stage.fpn_adapter(level)
            hidden = F.interpolate(hidden, size=adapted.shape[-2:], mode="nearest")
            hidden = stage.refine(_add_shared(hidden, adapted))
        return self.output_conv(hidden)


def _is_plain(conv: nn.Module) -> bool:
    """Return whether a convolution is what transformers makes, without an adapter and hooks."""
    return type(conv) is nn.Conv2d and not (conv._forward_hooks or conv._forward_pre_hooks or conv._backward_hooks)


def _add_shared(own: Tensor, shared: Tensor) -> Tensor:
    """Add to (B * Q, C, h, w) what the queries of an image share, (B, C, h, w)."""
    return (own.unflatten(0, (len(shared), -1)) + shared.unsqueeze(1)).flatten(0, 1)


MODEL_PARTS = (
    Part(
        ("ConditionalDetrMaskHeadSmallConv", "DetrMaskHeadSmallConv"),
        MaskHead,
        "convolutions of the features once per image, not per query",
        needs=("conv1", "conv2", "fpn_stages", "output_conv"),
    ),
)
