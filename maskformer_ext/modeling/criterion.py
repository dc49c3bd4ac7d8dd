"""The losses of MaskFormer, over the segments that exist."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.config.values import CHOICES, check_choice
from maskformer_ext.modeling.boxes import box_distance, segment_boxes
from maskformer_ext.modeling.matcher import BoxMatcher, FixedMatcher, HungarianMatcher
from maskformer_ext.modeling.outputs import DenseOutput, MaskFormerOutput, query_boxes, rows_of_pairs
from maskformer_ext.ops.matched_mask_loss import matched_mask_loss
from maskformer_ext.ops.support import checks, value_checks
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets

_NAME = "MaskFormerCriterion"


class _Pairs(NamedTuple):
    """The P listed segments of a batch, and the query of each in every layer.

    Attributes:
        image: (P,) the image of each, ascending, -1 at the end where there is none.
        segment: (P,) its index in the image; any number where there is none.
        query: (L, P) the query that learns it, -1 where there is none.
        matched: (L, P) bool, whether it counts.
    """

    image: Tensor
    segment: Tensor
    query: Tensor
    matched: Tensor


class MaskFormerCriterion(nn.Module):
    """Match every decoder layer's queries with the segments, then sum class, focal and dice losses.

    Everything works on the list of real segments (``targets.pairs()``), for all layers at once. Mask logits are formed
    for the matched queries only. Memory thus follows the number of segments in the batch, and not B x T. A network that
    hands out mask logits instead of embeddings passes a ``DenseOutput``.

    Source: MaskFormer (arXiv 2107.06278), equations 1 and 2; weights from section 4 and the appendix.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        class_weight: float = 1.0,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
        no_object_weight: float = 0.1,
        alpha: float = 0.25,
        gamma: float = 2.0,
        ignore_void: bool = False,
        matching: str = "bipartite",
        box_weight: float = 5.0,
        giou_weight: float = 2.0,
    ) -> None:
        """Create the criterion.

        Args:
            num_classes: K.
            class_weight: factor of the class loss, in the total and in the matching cost; likewise the next two.
            mask_weight: factor of the focal loss.
            dice_weight: factor of the dice loss.
            no_object_weight: weight of "no object" in the weighted mean of the class loss.
            alpha: of the focal loss; negative for none.
            gamma: of the focal loss.
            ignore_void: leave void pixels out of cost and loss instead of counting them as negatives.
            matching: "bipartite" goes by masks, "box" by predicted boxes, which then have losses too. With "fixed",
                query k learns the segments of class k.
            box_weight: with "box", the factor of the difference of boxes in total and cost.
            giou_weight: with "box", the factor of their generalised IoU.

        Raises:
            TypeError: an option is of another type.
            ValueError: a number is out of range.
            UserError: ``matching`` is unknown.
        """
        super().__init__()
        _check_options(
            num_classes,
            {
                "class_weight": class_weight,
                "mask_weight": mask_weight,
                "dice_weight": dice_weight,
                "no_object_weight": no_object_weight,
                "box_weight": box_weight,
                "giou_weight": giou_weight,
            },
        )
        checks.check_focal(_NAME, alpha, gamma)
        checks.check_flag(_NAME, ignore_void=ignore_void)
        self.num_classes = num_classes
        self.label_limit = num_classes  # labels from here on are out of range
        self.weights = {"loss_ce": class_weight, "loss_mask": mask_weight, "loss_dice": dice_weight}
        self.no_object_weight = no_object_weight
        self.alpha, self.gamma, self.ignore_void = alpha, gamma, ignore_void
        check_choice("criterion.matching", matching, CHOICES["criterion.matching"])
        self.matcher: nn.Module = FixedMatcher()
        if matching == "box":
            self.weights |= {"loss_box": box_weight, "loss_giou": giou_weight}
            self.matcher = BoxMatcher(class_weight=class_weight, box_weight=box_weight, giou_weight=giou_weight)
        elif matching == "bipartite":
            self.matcher = HungarianMatcher(
                class_weight=class_weight,
                mask_weight=mask_weight,
                dice_weight=dice_weight,
                alpha=alpha,
                gamma=gamma,
                ignore_void=ignore_void,
            )

    def forward(
        self,
        out: MaskFormerOutput | DenseOutput,
        targets: SegmentTargets | MaskTargets,
        num_masks: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Compute the losses.

        Args:
            out: the predictions of L supervised layers, the last one last.
            targets: the segments of the B images, of any size; mask logits are resized to it.
            num_masks: what the mask losses are divided by, a scalar already averaged over processes. By default it is
                the number of segments in this batch, at least 1.

        Returns:
            Three values:

            - The weighted total.
            - The losses without weights: ``loss_ce``, ``loss_mask`` and ``loss_dice`` of the last layer; with matching
              by boxes also ``loss_box`` and ``loss_giou``. Earlier layers have the suffix ``_0`` and so on.
            - The counts ``nonfinite_queries`` and ``invalid_targets``. The latter are segments, pixels and numbers of
              segments out of range, which count as void on a GPU.

        Raises:
            ValueError: a target is out of range, on the CPU or with `MASKFORMER_EXT_CHECKS=1`.
        """
        batch, capacity = targets.labels.shape
        image, segment = targets.pairs()
        counts = targets.num_segments.clamp(0, capacity)
        if num_masks is None:
            num_masks = counts.sum().clamp(min=1)
        query = self.matcher(out, targets)
        # On a GPU nobody has looked at the values yet: what is out of range is read nowhere, and counted.
        row, column = image.clamp(0, batch - 1), segment.clamp(0, capacity - 1)
        label = targets.labels[row, column]
        known = (image >= 0) & (image < batch) & (segment >= 0) & (segment < counts[row])
        known &= (label >= 0) & (label < self.label_limit)
        pair_query = query[:, row, column]  # (L, P)
        matched = known & (pair_query >= 0)

        per_layer = {"loss_ce": self._class_loss(out.class_logits, pair_query, row, label, matched)}
        pairs = _Pairs(image.clamp(max=batch - 1), segment, pair_query, matched)
        per_pair = self._mask_losses(out, targets, pairs)
        if "loss_box" in self.weights:
            per_pair |= _box_losses(out, targets, pairs)
        per_layer |= {name: loss.sum(1) / num_masks for name, loss in per_pair.items()}
        total = torch.stack([self.weights[name] * loss for name, loss in per_layer.items()]).sum()
        return total, _name_layers(per_layer), self._stats(out, targets, (image >= 0) & ~known)

    def _class_loss(
        self, class_logits: Tensor, pair_query: Tensor, image: Tensor, label: Tensor, matched: Tensor
    ) -> Tensor:
        """Return the weighted mean cross-entropy of all queries, (L,)."""
        layers, batch, queries, _ = class_logits.shape
        # one slot more than there are queries takes the pairs that do not count
        slot = torch.where(matched, image * queries + pair_query, batch * queries)
        target = torch.full(
            (layers, batch * queries + 1), self.num_classes, dtype=torch.int64, device=class_logits.device
        )
        target = target.scatter(1, slot, label.expand(layers, -1))[:, :-1]
        log_probability = F.log_softmax(class_logits.float(), dim=-1).flatten(1, 2)
        loss = -log_probability.gather(2, target.unsqueeze(2)).squeeze(2)
        weight = self.class_loss_weight(target)
        return (weight * loss).sum(1) / weight.sum(1)

    def class_loss_weight(self, target: Tensor) -> Tensor:
        """Return the weight of each query in the class loss, from its target class; any shape."""
        return torch.where(target == self.num_classes, self.no_object_weight, 1.0)

    def _mask_losses(
        self, out: MaskFormerOutput | DenseOutput, targets: SegmentTargets | MaskTargets, pairs: _Pairs
    ) -> dict[str, Tensor]:
        """Return focal and dice of every layer and pair, (L, P) each, 0 for pairs that do not count."""
        layers = len(pairs.query)
        logits = out.pair_logits(pairs.image, pairs.query, targets.labels.shape[1])
        focal, dice = matched_mask_loss(
            logits.flatten(0, 1),
            targets,
            torch.where(pairs.matched, pairs.image, -1).T.flatten(),
            torch.where(pairs.matched, pairs.segment, -1).T.flatten(),
            alpha=self.alpha,
            gamma=self.gamma,
            ignore_void=self.ignore_void,
        )
        return {"loss_mask": focal.view(-1, layers).T, "loss_dice": dice.view(-1, layers).T}

    @torch.no_grad()
    def _stats(
        self, out: MaskFormerOutput | DenseOutput, targets: SegmentTargets | MaskTargets, unknown: Tensor
    ) -> dict[str, Tensor]:
        """Count queries with a non-finite prediction, and segments and pixels with a number out of range."""
        return {
            "nonfinite_queries": out.nonfinite_queries().sum(),
            "invalid_targets": unknown.sum() + value_checks.count_invalid(targets),
        }


def _box_losses(
    out: MaskFormerOutput | DenseOutput, targets: SegmentTargets | MaskTargets, pairs: _Pairs
) -> dict[str, Tensor]:
    """Return difference and 1 - generalised IoU of every layer and pair, (L, P) each, 0 where there is no box."""
    capacity = targets.labels.shape[1]
    wanted = segment_boxes(targets)[pairs.image.clamp(min=0), pairs.segment.clamp(0, capacity - 1)]
    boxes = query_boxes(out)
    found = boxes.flatten(0, 2)[rows_of_pairs(boxes, pairs.image, pairs.query)]
    counts = pairs.matched & (wanted[:, 2:] > 0).all(-1)
    difference, disjoint = box_distance(found, wanted)
    return {
        "loss_box": torch.where(counts, difference, 0.0),
        "loss_giou": torch.where(counts, disjoint, 0.0),
    }


def _name_layers(per_layer: dict[str, Tensor]) -> dict[str, Tensor]:
    """Split (L,) losses into scalars: the last layer keeps the name, earlier ones get their index."""
    losses = {name: loss[-1] for name, loss in per_layer.items()}
    for layer in range(len(per_layer["loss_ce"]) - 1):
        losses.update({f"{name}_{layer}": loss[layer] for name, loss in per_layer.items()})
    return losses


def _check_options(num_classes: int, weights: dict[str, float]) -> None:
    """Raise TypeError or ValueError for a weight or a number of classes that would spoil the total without a word."""
    if checks.whole_number(_NAME, "num_classes", num_classes) < 1:
        raise ValueError(f"{_NAME}: num_classes must be at least 1, got {num_classes}")
    checks.check_finite(_NAME, **weights)
    if weights["no_object_weight"] < 0:
        raise ValueError(f"{_NAME}: no_object_weight must not be negative, got {weights['no_object_weight']}")
