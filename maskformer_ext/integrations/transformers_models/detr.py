"""The detection models of transformers: what is replaced in them is what their loss makes, matcher and criterion.

These models have no module for the loss. Their property ``loss_function`` names a function of transformers.loss, which
makes a criterion and its matcher at each call. Ours runs the same function on a criterion with our parts. So losses,
their names and their weights are transformers' own code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch import nn

from maskformer_ext.integrations.transformers_models import detr_criteria, detr_matchers
from maskformer_ext.integrations.transformers_models.parts import Part, find, swap

_BY = "box_matching_cost, linear_sum_assignment"
_NEEDS = ("class_cost", "bbox_cost", "giou_cost")

LOSS_PARTS = (
    Part(("HungarianMatcher",), detr_matchers.SoftmaxMatcher, _BY, _NEEDS),
    Part(("DeformableDetrHungarianMatcher",), detr_matchers.FocalMatcher, _BY, _NEEDS),
    Part(
        ("RTDetrHungarianMatcher",),
        detr_matchers.ConfiguredMatcher,
        _BY,
        (*_NEEDS, "use_focal_loss", "alpha", "gamma"),
    ),
    Part(("LwDetrHungarianMatcher",), detr_matchers.GroupMatcher, f"{_BY}, all groups in one call", _NEEDS),
    Part(("GroundingDinoHungarianMatcher",), detr_matchers.TextMatcher, _BY, _NEEDS),
    Part(
        ("RfDetrHungarianMatcher",),
        detr_matchers.MaskMatcher,
        f"{_BY}, point_matching_cost, all groups in one call",
        (*_NEEDS, "mask_point_sample_ratio", "cost_mask_class", "cost_mask_dice"),
    ),
    Part(
        ("Deimv2Loss", "ImageLoss", "LwDetrImageLoss", "RTDetrLoss"),
        detr_criteria.Criterion,
        "matched_mask_loss; on a GPU, one call matches all layers",
        ("matcher",),
    ),
    Part(
        ("RfDetrImageLoss",),
        detr_criteria.PointCriterion,
        "uncertain_points, point_mask_loss",
        ("matcher", "mask_point_sample_ratio"),
    ),
)
"""What a loss of transformers is made of; `accelerate` takes a criterion or a matcher by itself too."""

_CRITERIA = (
    "DFineLoss",
    "DeformableDetrImageLoss",
    "Deimv2Loss",
    "GroundingDinoImageLoss",
    "ImageLoss",
    "LwDetrImageLoss",
    "RTDetrLoss",
    "RfDetrImageLoss",
)


class DetectionModel(nn.Module):
    """Before the models: the loss function that transformers chose, or that was set, on our matchers."""

    @property
    def loss_function(self) -> Any:
        """The function that computes the loss from predictions and labels."""
        original: Any = super()
        return on_our_matchers(original.loss_function)

    @loss_function.setter
    def loss_function(self, value: Any) -> None:
        self._loss_function = value  # as in transformers


def on_our_matchers(loss: Any) -> Any:
    """Return a loss function of transformers with our parts in its criterion; any other comes back as it is."""
    ours = isinstance(loss, FunctionType) and loss.__module__.startswith("transformers.loss.")
    return _with_our_criterion(loss) if ours else loss


@functools.cache
def _with_our_criterion(loss: Any) -> Any:
    """Copy a function so that the class of its criterion is another; transformers' module stays as it is."""
    names = [name for name in _CRITERIA if name in loss.__code__.co_names and name in loss.__globals__]
    if not names or loss.__closure__:
        return loss
    ours = {name: _made_of_our_parts(loss.__globals__[name]) for name in names}
    copied = FunctionType(loss.__code__, {**loss.__globals__, **ours}, loss.__name__, loss.__defaults__)
    copied.__kwdefaults__ = loss.__kwdefaults__
    return functools.update_wrapper(copied, loss)


def _made_of_our_parts(criterion: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def make(*arguments: Any, **options: Any) -> nn.Module:
        made = criterion(*arguments, **options)
        for _, module, part, reason in list(find(made, LOSS_PARTS)):
            if not reason:
                swap(module, part.mixin)
        return made

    return make


MODEL_PARTS = (
    Part(
        (
            "ConditionalDetrForObjectDetection",
            "DFineForObjectDetection",
            "DabDetrForObjectDetection",
            "DeformableDetrForObjectDetection",
            "Deimv2ForObjectDetection",
            "DetrForObjectDetection",
            "GroundingDinoForObjectDetection",
            "LwDetrForObjectDetection",
            "MMGroundingDinoForObjectDetection",
            "RTDetrForObjectDetection",
            "RTDetrV2ForObjectDetection",
            "RfDetrForObjectDetection",
            "TableTransformerForObjectDetection",
            "YolosForObjectDetection",
        ),
        DetectionModel,
        f"its loss on {_BY}",
        ("loss_function",),
    ),
    Part(
        ("ConditionalDetrForSegmentation", "DetrForSegmentation"),
        DetectionModel,
        f"its loss on {_BY}, matched_mask_loss",
        ("loss_function",),
    ),
    Part(
        ("RfDetrForInstanceSegmentation",),
        DetectionModel,
        f"its loss on {_BY}, point_matching_cost, uncertain_points, point_mask_loss",
        ("loss_function",),
    ),
    *LOSS_PARTS,
)
