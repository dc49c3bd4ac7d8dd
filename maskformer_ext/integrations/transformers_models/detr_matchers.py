"""The matchers of transformers' detection models, on our ops: the same arguments and results.

Pairs are transformers' own, with two exceptions:

- costs that tie within rounding;
- problems where some object has no pair of finite cost left.

In the second case transformers takes the largest float as a cost. Beside it the other costs of the problem are lost to
rounding. Here such pairs are forbidden, and the others are matched at the least cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models.detr_masks import mask_targets
from maskformer_ext.ops.box_matching_cost import box_matching_cost
from maskformer_ext.ops.linear_sum_assignment import linear_sum_assignment
from maskformer_ext.ops.point_matching_cost import point_matching_cost
from maskformer_ext.ops.targets import BoxTargets

Outputs = Mapping[str, Any]
Labels = Sequence[Mapping[str, Tensor]]
Pairs = list[tuple[Tensor, Tensor]]

_ALPHA, _GAMMA, _EPSILON = 0.25, 2.0, 1e-8  # what transformers has in its code
_NO_QUERY = 1 << 62


class BoxMatcher(nn.Module):
    """What stands before every matcher.

    Boxes that are degenerate or not finite, and labels out of range, go through the original, which may raise.
    """

    class_cost: float
    bbox_cost: float
    giou_cost: float

    def announce(self, layers: Sequence[Outputs]) -> None:
        """Name the predictions that are going to be matched: the first call then matches all that are of its shape.

        An empty list makes the matcher forget them.
        """
        vars(self)["_announced"] = (list(layers), {})  # the second: the pairs of a layer, by the identity of its logits

    def match(self, outputs: Outputs, targets: Labels, groups: int = 1) -> Pairs | None:
        """Return the pairs of each image, or None where the original has to find them."""
        announced, known = vars(self).get("_announced", ([], {}))
        key = id(outputs["logits"])
        if key not in known:
            alike = [layer for layer in announced if _shapes(layer) == _shapes(outputs)]
            if not any(layer["logits"] is outputs["logits"] for layer in alike):
                alike = [outputs]
            pairs = self._match_layers(alike, targets, groups)
            if pairs is None and len(alike) > 1:  # one of them may be the only one that does not fit
                alike = [outputs]
                pairs = self._match_layers(alike, targets, groups)
            if pairs is None:
                return None
            if len(pairs) == 1:
                return pairs[0]
            known.update((id(layer["logits"]), found) for layer, found in zip(alike, pairs, strict=True))
        return known[key]

    def _match_layers(self, layers: Sequence[Outputs], targets: Labels, groups: int) -> list[Pairs] | None:
        objects = BoxTargets.from_dicts(targets)
        if not self.fits(layers, targets, objects):
            return None
        cost = self.costs(layers, targets, objects)
        size = cost.shape[-2] // groups
        cost = cost[..., : groups * size, :].unflatten(-2, (groups, size))  # the rest is in no group
        return _sorted_pairs(linear_sum_assignment(cost, objects.num_segments[:, None]), size)

    def fits(self, layers: Sequence[Outputs], targets: Labels, objects: BoxTargets) -> bool:
        """Return whether these are boxes that transformers takes, and labels that ours take; waits for a GPU."""
        inside = (objects.labels >= 0) & (objects.labels < layers[0]["logits"].shape[-1])
        return bool(torch.stack([inside.all(), _are_boxes(objects.boxes), *map(_are_boxes, _of(layers))]).all())

    def costs(self, layers: Sequence[Outputs], targets: Labels, objects: BoxTargets) -> Tensor:
        """Return the costs (L, B, Q, T) of layers of one shape."""
        return self.box_costs(_stack(layers, "logits"), layers, objects, class_weight=self.class_cost)

    def box_costs(self, logits: Tensor, layers: Sequence[Outputs], objects: BoxTargets, **options: Any) -> Tensor:
        """Return ``box_matching_cost`` with the weights of this matcher."""
        return box_matching_cost(
            logits,
            _stack(layers, "pred_boxes"),
            objects,
            box_weight=self.bbox_cost,
            giou_weight=self.giou_cost,
            **{**self.class_options(), **options},
        )

    def class_options(self) -> dict[str, Any]:
        """Return the options of ``box_matching_cost`` that concern the class."""
        return {"class_cost": "focal", "alpha": _ALPHA, "gamma": _GAMMA}


class SoftmaxMatcher(BoxMatcher):
    """Before ``HungarianMatcher`` of DETR."""

    @torch.no_grad()
    def forward(self, outputs: Outputs, targets: Labels) -> Pairs:
        """Match; arguments and result as in transformers."""
        pairs = self.match(outputs, targets)
        return super().forward(outputs, targets) if pairs is None else pairs

    def class_options(self) -> dict[str, Any]:
        return {"class_cost": "softmax"}


class FocalMatcher(BoxMatcher):
    """Before ``DeformableDetrHungarianMatcher``."""

    @torch.no_grad()
    def forward(self, outputs: Outputs, targets: Labels) -> Pairs:
        """Match; arguments and result as in transformers."""
        pairs = self.match(outputs, targets)
        return super().forward(outputs, targets) if pairs is None else pairs


class ConfiguredMatcher(FocalMatcher):
    """Before ``RTDetrHungarianMatcher``, which D-FINE and DEIMv2 use too."""

    use_focal_loss: bool
    alpha: float
    gamma: float

    @torch.no_grad()
    def forward(self, outputs: Outputs, targets: Labels) -> Pairs:
        """Match; arguments and result as in transformers."""
        return super().forward(outputs, targets)

    def fits(self, layers: Sequence[Outputs], targets: Labels, objects: BoxTargets) -> bool:
        known = not self.use_focal_loss or (0 <= self.alpha <= 1 and self.gamma >= 0)
        return known and super().fits(layers, targets, objects)

    def class_options(self) -> dict[str, Any]:
        if not self.use_focal_loss:
            return {"class_cost": "softmax"}
        return {"class_cost": "focal", "alpha": self.alpha, "gamma": self.gamma}


class GroupMatcher(BoxMatcher):
    """Before ``LwDetrHungarianMatcher``, which RF-DETR uses for boxes."""

    @torch.no_grad()
    def forward(self, outputs: Outputs, targets: Labels, group_detr: int) -> Pairs:
        """Match every group of queries; arguments and result as in transformers."""
        pairs = self.match(outputs, targets, group_detr)
        return super().forward(outputs, targets, group_detr) if pairs is None else pairs


class TextMatcher(BoxMatcher):
    """Before ``GroundingDinoHungarianMatcher``, whose classes are sets of tokens."""

    @torch.no_grad()
    def forward(self, outputs: Outputs, targets: Labels) -> Pairs:
        """Match; arguments and result as in transformers."""
        pairs = self.match(outputs, targets)
        return super().forward(outputs, targets) if pairs is None else pairs

    def fits(self, layers: Sequence[Outputs], targets: Labels, objects: BoxTargets) -> bool:
        return super().fits(layers, targets, _without_labels(objects))

    def costs(self, layers: Sequence[Outputs], targets: Labels, objects: BoxTargets) -> Tensor:
        logits = _stack(layers, "logits").float()
        tokens = logits.new_zeros((*objects.labels.shape, logits.shape[-1]))  # of each object's class, their mean
        for row, label_map, image in zip(tokens, layers[0]["label_maps"], targets, strict=True):
            of_objects = label_map[image["class_labels"]].float()
            row[: len(of_objects)] = of_objects / of_objects.sum(-1, keepdim=True)
        probability, complement = logits.sigmoid(), (-logits).sigmoid()
        class_cost = _ALPHA * complement.pow(_GAMMA) * -(probability + _EPSILON).log()
        class_cost -= (1 - _ALPHA) * probability.pow(_GAMMA) * -(complement + _EPSILON).log()
        no_class = logits.new_zeros((*logits.shape[:-1], 1))
        box_cost = self.box_costs(no_class, layers, _without_labels(objects), class_weight=0.0)
        return box_cost + self.class_cost * (class_cost @ tokens.mT)


class MaskMatcher(BoxMatcher):
    """Before ``RfDetrHungarianMatcher``, which compares masks at random points too.

    transformers takes the number of points from the boxes, (B * Q, 4), where the size of the masks is meant. So does
    this.
    """

    mask_point_sample_ratio: int
    cost_mask_class: float
    cost_mask_dice: float

    @torch.no_grad()
    def forward(self, outputs: Outputs, targets: Labels, group_detr: int) -> Pairs:
        """Match every group of queries; arguments and result as in transformers."""
        pairs = self.match(outputs, targets, group_detr)
        return super().forward(outputs, targets, group_detr) if pairs is None else pairs

    def fits(self, layers: Sequence[Outputs], targets: Labels, objects: BoxTargets) -> bool:
        segments = mask_targets(self, targets)
        if segments is None or not torch.equal(segments.num_segments.cpu(), objects.num_segments.cpu()):
            return False
        return super().fits(layers, targets, objects)

    def costs(self, layers: Sequence[Outputs], targets: Labels, objects: BoxTargets) -> Tensor:
        logits, masks = _stack(layers, "logits"), _stack(layers, "pred_masks")
        batch, queries = logits.shape[1:3]
        count = batch * queries * 4 // self.mask_point_sample_ratio
        points = torch.rand(1, count, 2, device=masks.device).expand(1, batch, -1, -1)
        segments = mask_targets(self, targets)
        assert segments is not None  # by `fits`
        mask_cost = point_matching_cost(
            masks.new_zeros((1, batch, queries, 2)),
            masks,
            segments,
            points,
            class_weight=0.0,
            mask_weight=self.cost_mask_class,
            dice_weight=self.cost_mask_dice,
            sampling="nearest",
        )
        return super().costs(layers, targets, objects) + mask_cost


def _shapes(layer: Outputs) -> tuple[Any, ...]:
    return tuple((layer[name].shape, layer[name].dtype) for name in ("logits", "pred_boxes"))


def _of(layers: Sequence[Outputs]) -> list[Tensor]:
    return [layer["pred_boxes"] for layer in layers]


def _stack(layers: Sequence[Outputs], name: str) -> Tensor:
    """Join a tensor of several layers; a single one is not copied."""
    return layers[0][name][None] if len(layers) == 1 else torch.stack([layer[name] for layer in layers])


def _are_boxes(boxes: Tensor) -> Tensor:
    """Return whether all boxes are finite and none has a negative extent, () bool."""
    if not boxes.numel():
        return boxes.new_ones((), dtype=torch.bool)
    low, high = boxes.aminmax()  # NaN, where one is: no comparison with it holds
    return (low > -torch.inf) & (high < torch.inf) & (boxes[..., 2:].amin() >= 0)


def _without_labels(objects: BoxTargets) -> BoxTargets:
    return BoxTargets(objects.boxes, torch.zeros_like(objects.labels), objects.num_segments)


def _sorted_pairs(query: Tensor, size: int) -> list[Pairs]:
    """Turn the query of each object, (L, B, G, T) in groups of a size, into pairs with ascending queries."""
    groups, capacity = query.shape[-2:]
    query = query.cpu()
    query = query + size * torch.arange(groups)[:, None].where(query >= 0, 0)
    ordered, place = query.where(query >= 0, _NO_QUERY).flatten(-2).sort(-1)
    objects, counts = place % max(capacity, 1), (ordered < _NO_QUERY).sum(-1).tolist()
    return [
        [(ordered[layer, image, :count], objects[layer, image, :count]) for image, count in enumerate(of_layer)]
        for layer, of_layer in enumerate(counts)
    ]
