"""transformers' post-processing of MaskFormer, on our ops: the same arguments and results.

It is another function than the original's:

- Semantic scores are summed at the prediction's size and then resized.
- Panoptic probabilities are resized and weighted before the area test.
- Instance masks are resized by nearest neighbour.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskformer_ext.ops.matching_cost import nearest_index
from maskformer_ext.ops.panoptic_inference import panoptic_inference
from maskformer_ext.ops.semantic_inference import semantic_inference, semantic_scores

_log = logging.getLogger(__name__)

_QUERIES_AT_ONCE = 8  # of which scores are computed; bounds the temporaries


def post_process_semantic_segmentation(
    self: Any, outputs: Any, target_sizes: list[tuple[int, int]] | None = None, return_segmentation_scores: bool = False
) -> list[Any]:
    """Return the class of every pixel, as transformers' method of this name."""
    classes, masks = outputs.class_queries_logits, outputs.masks_queries_logits
    sizes = _sizes(masks, target_sizes)
    modes: dict[str, Any] = {"input_size": masks.shape[-2:], "resize": "scores"}
    if not return_segmentation_scores:
        return [semantic_inference(*image, **modes) for image in zip(classes, masks, sizes, strict=True)]
    from transformers.models.maskformer.image_processing_maskformer import SemanticSegmentationPostProcessorOutput

    results = []
    for image in zip(classes, masks, sizes, strict=True):
        scores = semantic_scores(*image, **modes)
        data = {"segmentation": scores.argmax(0), "segmentation_scores": scores}
        results.append(SemanticSegmentationPostProcessorOutput(data=data))
    return results


def post_process_labels(self: Any, outputs: Any, target_sizes: list[tuple[int, int]] | None = None) -> list[Tensor]:
    """Return the class of every pixel, as ``post_process_semantic_segmentation`` of versions that return no scores."""
    return post_process_semantic_segmentation(self, outputs, target_sizes)


def post_process_panoptic_segmentation(
    self: Any,
    outputs: Any,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
    label_ids_to_fuse: set[int] | None = None,
    target_sizes: list[tuple[int, int]] | None = None,
) -> list[dict[str, Any]]:
    """Return the segment of every pixel, as transformers' method of this name."""
    if label_ids_to_fuse is None:
        _log.warning("`label_ids_to_fuse` unset. No instance will be fused.")
        label_ids_to_fuse = set()
    classes, masks = outputs.class_queries_logits, outputs.masks_queries_logits
    results = []
    for class_logits, mask_logits, size in zip(classes, masks, _sizes(masks, target_sizes), strict=True):
        if not _any_kept(class_logits, threshold):
            results.append({"segmentation": torch.zeros(size) - 1, "segments_info": []})
            continue
        segment_map, segments = panoptic_inference(
            class_logits,
            mask_logits,
            size,
            thing_classes=range(class_logits.shape[-1] - 1),  # nothing is joined here, see _number
            object_mask_threshold=threshold,
            mask_threshold=mask_threshold,
            overlap_threshold=overlap_mask_area_threshold,
            input_size=mask_logits.shape[-2:],
            resize="probabilities",
            area="weighted",
        )
        ids = _number([segment["category_id"] for segment in segments], label_ids_to_fuse)
        if ids != list(range(1, len(ids) + 1)):
            table = torch.tensor([0, *ids], dtype=torch.int32, device=segment_map.device)
            segment_map = table[segment_map]
        infos = [
            {
                "id": number,
                "label_id": segment["category_id"],
                "was_fused": segment["category_id"] in label_ids_to_fuse,
                "score": round(segment["score"], 6),
            }
            for number, segment in zip(ids, segments, strict=True)
        ]
        results.append({"segmentation": segment_map, "segments_info": infos})
    return results


def post_process_instance_segmentation(
    self: Any,
    outputs: Any,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
    target_sizes: list[tuple[int, int]] | None = None,
    return_coco_annotation: bool | None = False,
    return_binary_maps: bool | None = False,
) -> list[dict[str, Any]]:
    """Return the instances, as transformers' method of this name; it too ignores the two thresholds of masks.

    The masks are resized by nearest neighbour, which commutes with everything that is done to single pixels. So they
    are painted at the prediction's size, and the finished map is resized once.
    """
    if return_coco_annotation and return_binary_maps:
        raise ValueError("return_coco_annotation and return_binary_maps can not be both set to True.")
    classes, masks = outputs.class_queries_logits, outputs.masks_queries_logits
    results = []
    for class_logits, mask_logits, size in zip(classes, masks, _sizes(masks, target_sizes), strict=True):
        query, label, score = _rank_instances(class_logits, mask_logits, threshold)
        rows, columns = (nearest_index(mask_logits.shape[axis + 1], size[axis], mask_logits.device) for axis in (0, 1))
        sampled = _sampled(mask_logits.shape[-2:], rows, columns)
        small = torch.full(mask_logits.shape[-2:], -1.0, device=mask_logits.device)
        infos: list[dict[str, Any]] = []
        kept: list[int] = []
        for index, category, value in zip(query.tolist(), label.tolist(), score.tolist(), strict=True):
            mask = mask_logits[index] > 0
            if (mask & sampled).any():
                small[mask] = len(kept)
                infos.append({"id": len(kept), "label_id": category, "was_fused": False, "score": round(value, 6)})
                kept.append(index)
        segmentation: Any = small[rows][:, columns].cpu()
        if return_coco_annotation:
            segmentation = _run_lengths(segmentation)
        elif return_binary_maps and kept:
            segmentation = torch.stack([(mask_logits[index] > 0)[rows][:, columns].float() for index in kept])
        results.append({"segmentation": segmentation, "segments_info": infos})
    return results


def _sizes(masks: Tensor, target_sizes: Any) -> list[tuple[int, int]]:
    if target_sizes is None:
        return [(masks.shape[-2], masks.shape[-1])] * len(masks)
    if len(target_sizes) != len(masks):
        raise ValueError("Make sure that you pass in as many target sizes as the batch dimension of the logits")
    return [(int(height), int(width)) for height, width in target_sizes]


def _any_kept(class_logits: Tensor, threshold: float) -> bool:
    score, label = class_logits.softmax(-1).max(-1)
    return bool(((label < class_logits.shape[-1] - 1) & (score > threshold)).any())


def _number(categories: list[int], fused: set[int]) -> list[int]:
    """Number segments as transformers does: one that follows a fused segment counts on from that one's id."""
    ids: list[int] = []
    last = 0
    first_of: dict[int, int] = {}
    for category in categories:
        last = first_of.get(category, last + 1)
        ids.append(last)
        if category in fused:
            first_of[category] = last
    return ids


def _rank_instances(class_logits: Tensor, mask_logits: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, class and score of the most probable (query, class) pairs that reach a score.

    The order is transformers': that of an unsorted top Q.
    """
    num_classes = class_logits.shape[1] - 1
    probability, index = F.softmax(class_logits, dim=-1)[:, :-1].flatten().topk(len(class_logits), sorted=False)
    possible = probability.double() >= 0.999 * threshold  # a score is at most the class probability, but for rounding
    probability, index = probability[possible], index[possible]
    query = index.div(num_classes, rounding_mode="floor")
    needed, which = query.unique(return_inverse=True)
    means = []
    for some in needed.split(_QUERIES_AT_ONCE):
        logits = mask_logits[some].flatten(1)
        inside = (logits > 0).float()  # a 16-bit sum would end at 65504 pixels
        means.append((logits.sigmoid() * inside).sum(1) / (inside.sum(1) + 1e-6))
    score = probability * torch.cat(means)[which] if means else probability
    reached = score.double() >= threshold
    return query[reached], (index % num_classes)[reached], score[reached]


def _sampled(size: Any, rows: Tensor, columns: Tensor) -> Tensor:
    """Return which pixels of a map the nearest-neighbour resize looks at, (h, w) bool: not all when it shrinks."""
    row, column = (torch.zeros(extent, dtype=torch.bool, device=rows.device) for extent in size)
    row[rows], column[columns] = True, True
    return row[:, None] & column


def _run_lengths(segmentation: Tensor) -> list[list[int]]:
    """Encode each id of a map, -1 included, by the starts and lengths of its runs, row by row, starts from 1."""
    flat = segmentation.flatten()
    start = torch.cat((torch.zeros(1, dtype=torch.int64), (flat[1:] != flat[:-1]).nonzero().flatten() + 1))
    length = torch.diff(start, append=torch.tensor([len(flat)]))
    owner = flat[start]
    runs = torch.stack((start + 1, length), 1)
    return [runs[owner == number].flatten().tolist() for number in owner.unique()]
