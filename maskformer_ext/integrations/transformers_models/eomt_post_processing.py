"""Post-processing of transformers' EoMT on our ops: ids from 0, -1 = void, and only what a query has is painted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.integrations.transformers_models.post_processing import (
    Size,
    any_kept,
    nothing,
    with_scores,
)
from maskformer_ext.ops.panoptic_inference import panoptic_inference
from maskformer_ext.ops.support.instance_masks import resized_masks
from maskformer_ext.ops.support.rows import Bilinear, Mapped, Rows, Stored, bands, first_argmax

_QUERIES_AT_ONCE = 16  # of which masks are made; bounds the temporaries


def input_size_of(size: Any) -> Size:
    """Return the network input (H, W) that a processor's ``size`` names."""
    return int(size["shortest_edge"]), int(size["longest_edge"] or size["shortest_edge"])


def resized_size(target: Size, size: Any) -> Size:
    """Return the size (H, W) to which a processor resizes an image before it pads or splits it."""
    from transformers.image_transforms import get_size_with_aspect_ratio

    height, width = get_size_with_aspect_ratio(target, size["shortest_edge"], size["longest_edge"])
    return height, width


def valid_size(target: Size, size: Any) -> Size:
    """Return the part of the network input that an image fills."""
    (height, width), (most_height, most_width) = resized_size(target, size), input_size_of(size)
    return min(height, most_height), min(width, most_width)


def panoptic(
    class_logits: Tensor,
    mask_logits: Tensor,
    target: Size,
    size: Any,
    *,
    threshold: float,
    mask_threshold: float,
    overlap_threshold: float,
    stuff_classes: list[int] | None,
) -> dict[str, Any]:
    """Return an image's segment of every pixel and facts of each segment."""
    if not any_kept(class_logits, threshold):
        return nothing(target)
    stuff = set(stuff_classes or ())
    segment_map, segments = panoptic_inference(
        class_logits,
        mask_logits,
        target,
        thing_classes=[category for category in range(class_logits.shape[-1] - 1) if category not in stuff],
        object_mask_threshold=threshold,
        mask_threshold=mask_threshold,
        overlap_threshold=overlap_threshold,
        input_size=input_size_of(size),
        crop=valid_size(target, size),
        paint="own",
    )
    infos = [
        {"id": segment["id"] - 1, "label_id": segment["category_id"], "score": round(segment["score"], 6)}
        for segment in segments
    ]
    return {"segmentation": segment_map.long() - 1, "segments_info": infos}


def instances(
    class_logits: Tensor, mask_logits: Tensor, target: Size, size: Any, *, threshold: float
) -> dict[str, Any]:
    """Return an image's instances, later queries over earlier ones.

    The mean probability inside a mask is summed in double precision. So a score may differ from transformers' by one in
    its last digit.
    """
    score, label = class_logits.softmax(-1)[..., :-1].max(-1)
    segmentation = torch.zeros(target) - 1
    infos: list[dict[str, Any]] = []
    possible = (score.double() >= 0.999 * threshold).nonzero().flatten()
    for some in possible.split(_QUERIES_AT_ONCE):
        if len(some) == 0:
            break
        arguments = (target, 0.0, input_size_of(size), valid_size(target, size))
        for query, mean, mask, place in masks_in_boxes(mask_logits[some], some, arguments):
            pixels = mask.sum()
            value = (score[query].float().cpu() * (mean * pixels / (pixels + 1e-6)).float()).item()
            if pixels == 0 or value < threshold:
                continue
            segmentation[place][mask] = len(infos)
            infos.append({"id": len(infos), "label_id": int(label[query]), "score": round(value, 6)})
    return {"segmentation": segmentation.to(mask_logits.device), "segments_info": infos}


def masks_in_boxes(mask_logits: Tensor, numbers: Tensor, arguments: Any) -> Any:
    """Yield number, mean probability, mask (bool) and its place in the map, a pair of slices, of each mask."""
    mean, boxes, packed = resized_masks(mask_logits, *arguments)
    bits = packed.cpu().numpy()
    for index, (number, box) in enumerate(zip(numbers.tolist(), boxes.long().tolist(), strict=True)):
        left, top, right, bottom = box
        first = left // 8 * 8
        part = bits[index, top:bottom, first // 8 : (right + 7) // 8]
        mask = np.unpackbits(part, axis=-1, count=right - first, bitorder="little")
        yield number, mean[index].cpu(), torch.from_numpy(mask).bool(), (slice(top, bottom), slice(first, right))


@dataclass(frozen=True)
class Stitched:
    """The mean of the scores of overlapping patches, which lie one after the other along one axis.

    Attributes:
        patches: the scores (K, rows, columns) of each.
        starts: the first row, or column, of each.
        vertical: whether they lie one above the other.
        height: of the whole.
        width: of the whole.
    """

    patches: Sequence[Rows]
    starts: Sequence[int]
    vertical: bool
    height: int
    width: int

    @property
    def channels(self) -> int:
        return self.patches[0].channels

    def rows(self, begin: int, end: int) -> Tensor:
        total: Tensor | None = None
        count = torch.zeros(end - begin, self.width)
        for patch, start in zip(self.patches, self.starts, strict=True):
            first, last = (max(begin - start, 0), min(end - start, patch.height)) if self.vertical else (begin, end)
            if first >= last:
                continue
            band = patch.rows(first, last)
            if total is None:
                total = band.new_zeros((self.channels, end - begin, self.width))
                count = count.to(band)
            offset = first + start - begin if self.vertical else 0
            place = slice(offset, offset + last - first), slice(0 if self.vertical else start, None)
            total[:, place[0], place[1]][..., : patch.width] += band
            count[place][..., : patch.width] += 1
        if total is None:
            return self.patches[0].rows(0, 1).new_zeros((self.channels, end - begin, self.width))
        return total.div_(count.clamp_(min=1))

    def cost_of_row(self) -> float:
        return max(self.channels * self.width, max(patch.cost_of_row() for patch in self.patches))


def stitched_semantic(
    classes: Tensor,
    masks: Tensor,
    offsets: Sequence[Any],
    targets: list[Size],
    size: Any,
    *,
    return_scores: bool,
) -> list[Any] | None:
    """Return the class of every pixel of images that were split into patches, a band of rows at a time.

    Returns:
        A map per image, with `return_scores` transformers' record of map and scores. None where the patches do not fit
        the images.
    """
    patch_size = input_size_of(size)
    placed: list[list[tuple[Rows, int]]] = [[] for _ in targets]
    for class_logits, mask_logits, offset in zip(classes, masks, offsets, strict=False):
        image, start, end = (int(number) for number in offset)
        whole = resized_size(targets[image], size)
        axis = 0 if targets[image][0] > targets[image][1] else 1
        if not 0 <= start < end <= whole[axis] or end - start != patch_size[axis]:
            return None
        if whole[1 - axis] != patch_size[1 - axis]:
            return None
        placed[image].append((_scores(class_logits, mask_logits, patch_size), start))
    if len(offsets) > len(classes) or not all(placed):
        return None
    results: list[Any] = []
    for patches, target in zip(placed, targets, strict=True):
        height, width = resized_size(target, size)
        rows, starts = zip(*patches, strict=True)
        whole_map = Bilinear(Stitched(rows, starts, target[0] > target[1], height, width), *target)
        if return_scores:
            scores = torch.cat([band for _, _, band in bands(whole_map)], 1)
            results.append(with_scores(scores.to(masks.dtype)))
        else:
            results.append(torch.cat([first_argmax(band)[1] for _, _, band in bands(whole_map)]))
    return results


def _scores(class_logits: Tensor, mask_logits: Tensor, patch_size: Size) -> Rows:
    """Return the class scores (K, H, W) of a patch."""
    weights = class_logits.float().softmax(-1)[:, :-1].t()

    def score(band: Tensor) -> Tensor:
        return (weights.to(band.dtype) @ band.sigmoid().flatten(1)).unflatten(1, band.shape[1:])

    return Mapped(Bilinear(Stored(mask_logits), *patch_size), len(weights), score)
