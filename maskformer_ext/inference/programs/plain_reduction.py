"""The reduction of queries in plain operators, for programs that run where this library is not.

Every mask is made at the size of the image, which the kernels avoid. What a result means is that of `reduction.py`.
Results have a fixed number of rows: those that stand for nothing have the label -1 and the score 0.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_MASK_THRESHOLD = 0.5  # of a query's own mask in panoptic segmentation


def count_queries(class_logits: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return class probabilities and masks in which a query that is not finite is absent.

    Args:
        class_logits: (B, Q, K + 1).
        mask_logits: (B, Q, h, w).

    Returns:
        (B, Q, K + 1) float32 probabilities, 0 for absent queries, and (B, Q, h, w) float32 mask logits.
    """
    classes, masks = class_logits.float(), mask_logits.float()
    extremes = torch.stack((classes.amax(-1), masks.amax((-2, -1)), masks.amin((-2, -1))))
    finite = extremes.isfinite().all(0).unsqueeze(-1)
    return classes.softmax(-1).where(finite, 0.0), masks.where(finite.unsqueeze(-1), 0.0)


def resize_masks(masks: Tensor, input_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Bring (B, N, h, w) maps to the padded network input, and cut the image out: (B, N, H, W)."""
    return F.interpolate(masks, input_size, mode="bilinear", align_corners=False)[..., : size[0], : size[1]]


def semantic_scores(probability: Tensor, masks: Tensor) -> Tensor:
    """Return the scores of all classes.

    Args:
        probability: (B, Q, K + 1) of the classes.
        masks: (B, Q, H, W) logits at the size of the image.

    Returns:
        (B, K, H, W): the sum over queries of the products of both probabilities.
    """
    weights = probability[..., :-1].transpose(1, 2)
    return (weights @ masks.sigmoid().flatten(2)).unflatten(2, masks.shape[-2:])


def best_query_classes(probability: Tensor, masks: Tensor) -> Tensor:
    """Return the class of each pixel's best query, (B, H, W) int64; arguments as those of `semantic_scores`."""
    best, label = probability[..., :-1].max(-1)
    is_object = best >= probability[..., -1]
    best = torch.where(is_object | ~is_object.any(-1, keepdim=True), best, 0.0)
    winner = (masks.sigmoid() * best[..., None, None]).argmax(1)
    return label.gather(1, winner.flatten(1)).unflatten(1, masks.shape[-2:])


def panoptic_segments(
    probability: Tensor, masks: Tensor, things: Tensor, *, object_mask_threshold: float, overlap_threshold: float
) -> dict[str, Tensor]:
    """Paint each pixel with the segment of its best query, as `panoptic_inference` does.

    Args:
        probability: (B, Q, K + 1) of the classes.
        masks: (B, Q, H, W) logits at the size of the image.
        things: (K,) bool, the classes whose segments never merge.
        object_mask_threshold: class probability that a query must exceed.
        overlap_threshold: least share of a query's mask that it must win.

    Returns:
        ``segment_map`` (B, H, W) int32, 0 = none. Then a row per segment, (B, Q) each: ``ids`` int64, 0 where there is
        none, ``labels`` int64, ``scores`` float32 and ``areas`` int64 in pixels.
    """
    best, label = probability[..., :-1].max(-1)
    kept = (best >= probability[..., -1]) & (best > object_mask_threshold)
    inside = masks.sigmoid()
    winner = torch.where(kept[..., None, None], inside * best[..., None, None], -1.0).argmax(1)
    query = torch.arange(probability.shape[1], device=masks.device)
    won = (winner.unsqueeze(1) == query[:, None, None]).sum((-2, -1))
    own = (inside >= _MASK_THRESHOLD).sum((-2, -1))
    share = won.double() / own.clamp(min=1).double()
    accepted = kept & (won > 0) & (own > 0) & (share >= overlap_threshold)

    # stuff joins the first accepted query of its class; each query that joins none begins a segment
    same = (label.unsqueeze(2) == label.unsqueeze(1)) & accepted.unsqueeze(1)
    earlier = torch.where(same, query, len(query) - 1).amin(-1)
    first = torch.where(things[label], query, earlier)
    begins = accepted & (first == query)
    number = begins.long().cumsum(1)
    ids = torch.where(accepted, number.gather(1, first), 0)
    segment_map = ids.gather(1, winner.flatten(1)).unflatten(1, masks.shape[-2:]).int()

    row = query + 1
    belongs = ids.unsqueeze(1) == row[:, None]  # (B, segment, query)
    starts = belongs & begins.unsqueeze(1)
    exists = row <= number[:, -1:]
    return {
        "segment_map": segment_map,
        "ids": torch.where(exists, row, 0),
        "labels": torch.where(exists, (starts * label.unsqueeze(1)).sum(-1), -1),
        "scores": (starts * best.unsqueeze(1)).sum(-1),
        "areas": (belongs * won.unsqueeze(1)).sum(-1),
    }


def instances(
    probability: Tensor,
    masks: Tensor,
    things: Tensor,
    input_size: tuple[int, int],
    size: tuple[int, int],
    *,
    top_k: int,
    mask_threshold: float,
) -> dict[str, Tensor]:
    """Return the most probable queries and classes with their masks, as `instance_inference` does.

    Args:
        probability: (B, Q, K + 1) of the classes.
        masks: (B, Q, h, w) logits as the network gives them.
        things: (K,) bool, the classes that have instances.
        input_size: height and width of the padded network input.
        size: height and width of the image.
        top_k: how many there are at most.
        mask_threshold: a pixel belongs to a mask where its probability exceeds this.

    Returns:
        n rows in the order of class probability, n being ``top_k`` or less where there are fewer pairs: ``masks``
        (B, n, H, W) bool, ``scores`` (B, n) float32, ``labels`` (B, n) int64, ``boxes`` (B, n, 4) float32 x0, y0, x1,
        y1 in half-open pixels. Rows without a pixel have the label -1, the score 0, and an empty box and mask.
    """
    batch, queries, columns = probability.shape
    pairs = probability[..., :-1].flatten(1)
    value, index = pairs.topk(min(top_k, queries * (columns - 1)), dim=1)
    query, label = index // (columns - 1), index % (columns - 1)
    place = torch.arange(batch, device=masks.device).unsqueeze(1) * queries + query
    chosen = masks.flatten(0, 1).index_select(0, place.flatten()).unflatten(0, (batch, query.shape[1]))
    logits = resize_masks(chosen, input_size, size)
    inside = (logits > _logit(mask_threshold)) & (things[label] & (value > 0))[..., None, None]
    pixels = inside.sum((-2, -1))
    found = pixels > 0
    mean = (logits.sigmoid() * inside).sum((-2, -1)) / pixels.clamp(min=1)
    boxes = torch.cat((_extent(inside.any(-2)), _extent(inside.any(-1))), dim=-1)[..., [0, 2, 1, 3]]
    return {
        "masks": inside,
        "scores": torch.where(found, value * mean, 0.0),
        "labels": torch.where(found, label, -1),
        "boxes": boxes.where(found.unsqueeze(-1), 0.0),
    }


def _extent(touched: Tensor) -> Tensor:
    """Return the first touched position and that after the last, (..., 2) float32, of (..., n) bool."""
    position = torch.arange(touched.shape[-1], device=touched.device)
    first = torch.where(touched, position, touched.shape[-1]).amin(-1)
    last = torch.where(touched, position, -1).amax(-1)
    return torch.stack((first, last + 1), dim=-1).float()


def _logit(probability: float) -> float:
    """Invert the sigmoid, as the op does: masks are compared as logits."""
    if probability in (0.0, 1.0):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))
