"""Losses over random points, for all layers and images in one call: Mask2Former and what took its loss over.

The random numbers are those of transformers, in its order. For each layer it draws the matcher's points of each image.
Then it draws the candidates of all pairs, then the points of all pairs that chance alone decides. How many pairs there
will be is known from the labels, so that all of a layer's numbers can be drawn before it is matched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models.layers import (
    AuxiliaryLogits,
    count_masks,
    sorted_pairs,
    with_spare_class,
)
from maskformer_ext.integrations.transformers_models.parts import is_swapped
from maskformer_ext.integrations.transformers_models.targets import Targets, image_class_labels, make_targets
from maskformer_ext.modeling.outputs import DenseOutput, MaskFormerOutput
from maskformer_ext.ops.linear_sum_assignment import linear_sum_assignment
from maskformer_ext.ops.point_mask_loss import point_mask_loss
from maskformer_ext.ops.point_matching_cost import point_matching_cost
from maskformer_ext.ops.point_matching_cost_from_embeddings import point_matching_cost_from_embeddings
from maskformer_ext.ops.uncertain_points import uncertain_points

Prediction = MaskFormerOutput | DenseOutput
_CANDIDATES = 2**22  # numbers drawn for candidates at once; a layer's may be more


@dataclass(frozen=True)
class PointLossOptions:
    """What a loss of transformers and its matcher hold.

    Attributes:
        matching_points: points of an image that the matcher compares at.
        points: points of a pair that the loss is taken at.
        candidates: points of a pair that the most uncertain are chosen of.
        uncertain: how many of ``points`` are chosen by uncertainty, the rest is drawn.
        costs: weights of the matcher, under the names of ``point_matching_cost``.
        class_weight: (K + 1,) weight of each class in the class loss, the last one that of "no object".
    """

    matching_points: int
    points: int
    candidates: int
    uncertain: int
    costs: dict[str, Any]
    class_weight: Tensor

    @staticmethod
    def of(loss: Any) -> PointLossOptions:
        """Read them from a loss of transformers."""
        return PointLossOptions(
            matching_points=loss.matcher.num_points,
            points=loss.num_points,
            candidates=int(loss.num_points * loss.oversample_ratio),
            uncertain=int(loss.importance_sample_ratio * loss.num_points),
            costs=matcher_costs(loss.matcher),
            class_weight=loss.empty_weight,
        )


def matcher_costs(matcher: Any) -> dict[str, Any]:
    """Return the weights of a matcher of transformers, under the names of ``point_matching_cost``."""
    return {"class_weight": matcher.cost_class, "mask_weight": matcher.cost_mask, "dice_weight": matcher.cost_dice}


class _Pairs(NamedTuple):
    """The N pairs that each layer has: min(Q, T) of each image, ascending by query, which is scipy's order.

    Attributes:
        image: (N,) the image of each, ascending.
        place: (N,) its number among the pairs of its image.
        most: pairs of the most crowded image.
    """

    image: Tensor
    place: Tensor
    most: int

    @staticmethod
    def list_all(counts: Sequence[int], queries: int, device: torch.device) -> _Pairs:
        matched = [min(queries, count) for count in counts]
        image = [image for image, count in enumerate(matched) for _ in range(count)]
        place = [place for count in matched for place in range(count)]
        return _Pairs(
            torch.tensor(image, device=device).long(), torch.tensor(place, device=device).long(), max(matched)
        )


class _Draws(NamedTuple):
    """Random points of some layers, in [0, 1].

    Attributes:
        matching: (L, B, P, 2) for the matcher.
        candidates: (L, N, M, 2) for each pair.
        rest: (L, N, R, 2) for each pair.
    """

    matching: Tensor
    candidates: Tensor
    rest: Tensor

    @staticmethod
    def draw(layers: int, batch: int, pairs: int, options: PointLossOptions, device: torch.device) -> _Draws:
        rest = options.points - options.uncertain
        sizes = (batch, options.matching_points), (pairs, options.candidates), (pairs, rest)
        matching, candidates, random = (torch.empty((layers, *size, 2), device=device) for size in sizes)
        for layer in range(layers):
            for image in range(batch):  # calls apart: on a GPU the numbers depend on it
                matching[layer, image].uniform_()
            candidates[layer].uniform_()
            if rest:
                random[layer].uniform_()
        return _Draws(matching, candidates, random)


def point_losses(
    prediction: Prediction,
    targets: Targets,
    counts: Sequence[int],
    num_masks: Tensor,
    options: PointLossOptions,
    order: Sequence[int],
) -> dict[str, Tensor]:
    """Compute the losses of all layers.

    Args:
        prediction: of L layers, whose mask logits are not formed if it holds embeddings.
        targets: the segments of the images.
        counts: how many segments each image has.
        num_masks: what the mask losses are divided by, one number.
        options: of the loss and its matcher.
        order: the layers in the order in which transformers draws for them.

    Returns:
        ``loss_mask``, ``loss_dice`` and ``loss_cross_entropy``, (L,) each in the order of the layers, unweighted.
    """
    layers, _, queries, _ = prediction.class_logits.shape
    pairs = _Pairs.list_all(counts, queries, prediction.class_logits.device)
    numbers = max(1, len(pairs.image) * options.candidates * 2)
    rows = []
    for some in _groups(order, max(1, _CANDIDATES // numbers)):
        rows.append(_group_losses(_some_layers(prediction, some), targets, pairs, options))
    place = torch.tensor([list(order).index(layer) for layer in range(layers)], device=num_masks.device)
    mask, dice, classes = (torch.cat(loss)[place] for loss in zip(*rows, strict=True))
    return {"loss_mask": mask / num_masks, "loss_dice": dice / num_masks, "loss_cross_entropy": classes}


def _groups(order: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (order[start : start + size] for start in range(0, len(order), size))


def _some_layers(prediction: Prediction, layers: Sequence[int]) -> Prediction:
    index = torch.tensor(layers, device=prediction.class_logits.device)
    classes = prediction.class_logits[index]
    if isinstance(prediction, MaskFormerOutput):
        return replace(prediction, class_logits=classes, mask_embed=prediction.mask_embed[index])
    return replace(
        prediction, class_logits=classes, masks=prediction.masks if len(index) == 1 else prediction.masks[index]
    )


def _group_losses(
    prediction: Prediction, targets: Targets, pairs: _Pairs, options: PointLossOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Return cross-entropy and dice summed over the pairs, and the class loss, (L,) each."""
    layers, batch = prediction.class_logits.shape[:2]
    draws = _Draws.draw(layers, batch, len(pairs.image), options, prediction.class_logits.device)
    query, segment = _match(prediction, targets, pairs, draws.matching, options)
    number = query.shape[1]
    image = pairs.image.expand(layers, -1)
    label = targets.labels[image, segment] if number else segment
    classes = _class_loss(prediction.class_logits, image, query, label, options.class_weight)
    logits = prediction.pair_logits(pairs.image, query, pairs.most).transpose(0, 1).flatten(0, 1)
    chosen = uncertain_points(logits, draws.candidates.flatten(0, 1), options.uncertain)
    points = torch.cat([chosen, draws.rest.flatten(0, 1)], 1)
    del draws, chosen  # the candidates are the most that this function holds
    mask, dice = point_mask_loss(logits, targets, image.flatten(), segment.flatten(), points)
    return mask.view(layers, number).sum(1), dice.view(layers, number).sum(1), classes


@torch.no_grad()
def _match(
    prediction: Prediction, targets: Targets, pairs: _Pairs, points: Tensor, options: PointLossOptions
) -> tuple[Tensor, Tensor]:
    """Return the query and the segment of every pair, (L, N) each."""
    classes = with_spare_class(prediction.class_logits)
    if isinstance(prediction, MaskFormerOutput):
        embeddings = prediction.mask_embed, prediction.mask_features
        cost = point_matching_cost_from_embeddings(classes, *embeddings, targets, points, **options.costs)
    else:
        cost = point_matching_cost(classes, prediction.masks, targets, points, **options.costs)
    query = linear_sum_assignment(cost, targets.num_segments)
    unmatched = query < 0
    query, segment = query.masked_fill(unmatched, cost.shape[-2]).sort(-1)
    return query[:, pairs.image, pairs.place], segment[:, pairs.image, pairs.place]


def _class_loss(class_logits: Tensor, image: Tensor, query: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean cross-entropy of all queries, (L,)."""
    layers, batch, queries, columns = class_logits.shape
    target = torch.full((layers, batch * queries), columns - 1, dtype=torch.int64, device=class_logits.device)
    target = target.scatter(1, image * queries + query, label)
    dtype = torch.promote_types(class_logits.dtype, torch.float32)
    log_probability = F.log_softmax(class_logits.to(dtype), dim=-1).flatten(1, 2)
    loss = -log_probability.gather(2, target.unsqueeze(2)).squeeze(2)
    of_query = weight.to(dtype)[target]
    return (of_query * loss).sum(1) / of_query.sum(1)


class PointMatcher(nn.Module):
    """Before the matchers of Mask2Former and its relatives: all images and segments in two calls."""

    num_points: int

    @torch.no_grad()
    def forward(
        self, masks_queries_logits: Tensor, class_queries_logits: Tensor, mask_labels: Any, class_labels: Any
    ) -> list[Any]:
        """Match; arguments and result as in transformers, with the forms of ``mask_labels`` of `make_targets` too."""
        targets = make_targets(mask_labels, class_labels)
        if targets is None:
            return super().forward(masks_queries_logits, class_queries_logits, mask_labels, class_labels)
        batch, device = len(masks_queries_logits), masks_queries_logits.device
        points = torch.cat([torch.rand(1, self.num_points, 2, device=device) for _ in range(batch)])
        classes = with_spare_class(class_queries_logits)
        cost = point_matching_cost(classes, masks_queries_logits, targets, points, **matcher_costs(self))
        return [sorted_pairs(row) for row in linear_sum_assignment(cost, targets.num_segments).cpu()]


class PointLoss(nn.Module):
    """What the mixins before the losses have in common."""

    matcher: Any

    @torch.compiler.disable
    def all_layers(
        self, masks: Tensor, classes: Tensor, mask_labels: Any, class_labels: Any, auxiliary: Any
    ) -> dict[str, Tensor] | None:
        """Compute the losses of all layers under transformers' names, unweighted.

        Args:
            masks: (B, Q, h, w) mask logits of the last layer; not read where ``auxiliary`` has its embeddings.
            classes: (B, Q, K + 1) likewise.
            mask_labels: labels, in one of the forms of `make_targets`.
            class_labels: likewise.
            auxiliary: `AuxiliaryLogits`, or a list of dictionaries of logits, or None.

        Returns:
            The losses, or None where transformers' own code must do it.
        """
        targets = make_targets(mask_labels, class_labels) if is_swapped(self.matcher) else None
        if targets is None:
            return None
        labels: Any = image_class_labels(mask_labels, class_labels)
        counts = [len(row) for row in labels]
        num_masks = count_masks(self, labels, classes.device, 1 + len(auxiliary or ()))

        def losses_of(prediction: Prediction) -> dict[str, Tensor]:
            last = len(prediction.class_logits) - 1
            order = [last, *range(last)]
            return point_losses(prediction, targets, counts, num_masks, PointLossOptions.of(self), order)

        if isinstance(auxiliary, AuxiliaryLogits):
            layers = [losses_of(auxiliary.prediction)]
        else:
            dense = [(masks, classes)]
            dense += [(entry["masks_queries_logits"], entry["class_queries_logits"]) for entry in auxiliary or ()]
            layers = [losses_of(DenseOutput(of_class[None], of_mask[None])) for of_mask, of_class in dense]
            layers = layers[1:] + layers[:1]  # as in a prediction: the last layer last
        return _named({name: torch.cat([layer[name] for layer in layers]) for name in layers[0]}, num_masks)


def _named(losses: dict[str, Tensor], num_masks: Tensor) -> dict[str, Tensor]:
    """Name the losses of each layer as transformers does; those of masks have the shape of ``num_masks`` there."""
    named = {}
    last = len(losses["loss_mask"]) - 1
    for layer in (last, *range(last)):
        suffix = "" if layer == last else f"_{layer}"
        for name, loss in losses.items():
            # clones, since transformers weights them in place, and they are rows of one tensor
            row = loss[layer].clone()
            named[name + suffix] = row if name == "loss_cross_entropy" else row.reshape(num_masks.shape)
    return named
