"""transformers' rules of post-processing on our ops, shared by its image processors: the same results.

Every function takes the images' class logits and mask logits, (B, Q, K + 1) and (B, Q, h, w), and a size per image.
The rules differ from the original's:

- Semantic scores are summed at the prediction's size and then resized.
- Panoptic probabilities are resized and weighted before the area test.
- Instance masks are resized by nearest neighbour.

`input_size` is what a processor resizes the mask logits to before all else, such as Mask2Former's (384, 384).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskformer_ext.ops.matching_cost import nearest_index
from maskformer_ext.ops.panoptic_inference import panoptic_inference
from maskformer_ext.ops.semantic_inference import semantic_inference, semantic_scores
from maskformer_ext.ops.support.row_runs import has_positive_masks, paint_masks, positive_masks, row_runs

_log = logging.getLogger(__name__)

_QUERIES_AT_ONCE = 8  # of which scores are computed; bounds the temporaries
_NEAR = 1e-5  # relative: sums of float32 round by less
Size = tuple[int, int]


def whole_run(run: np.ndarray) -> list[Any]:
    """Return the numbers of a run as Python's."""
    return run.tolist()


def numpy_run(run: np.ndarray) -> list[Any]:
    """Return the numbers of a run as NumPy's."""
    return list(run)


def sizes_of(target_sizes: Any, size: Sequence[int], images: int) -> list[Size]:
    """Return the output size of each image: the one asked for, else `size`."""
    if target_sizes is None:
        return [(int(size[0]), int(size[1]))] * images
    return [(int(target_sizes[image][0]), int(target_sizes[image][1])) for image in range(images)]


def check_count(target_sizes: Any, images: int) -> None:
    """Raise ValueError, as transformers does for semantic maps, unless there is a size per image."""
    if target_sizes is not None and len(target_sizes) != images:
        raise ValueError("Make sure that you pass in as many target sizes as the batch dimension of the logits")


def ids_to_fuse(label_ids_to_fuse: set[int] | None) -> Collection[int]:
    """Return the classes whose segments join; warn as transformers does where none are given."""
    if label_ids_to_fuse is None:
        _log.warning("`label_ids_to_fuse` unset. No instance will be fused.")
        return set()
    return label_ids_to_fuse


def semantic_maps(
    classes: Tensor,
    masks: Tensor,
    sizes: list[Size],
    *,
    input_size: Sequence[int] | None = None,
    return_scores: bool = False,
) -> list[Any]:
    """Return the class of every pixel, or with `return_scores` also the score of every class."""
    modes: dict[str, Any] = {"input_size": input_size or masks.shape[-2:], "resize": "scores"}
    images = zip(classes, masks, sizes, strict=True)
    if not return_scores:
        return [semantic_inference(*image, **modes) for image in images]
    return [with_scores(semantic_scores(*image, **modes).to(masks.dtype)) for image in images]


def with_scores(scores: Tensor) -> Any:
    """Return transformers' record of a map of scores (K, H, W) and the classes that have the best."""
    from transformers.models.maskformer.image_processing_maskformer import SemanticSegmentationPostProcessorOutput

    data = {"segmentation": scores.argmax(0), "segmentation_scores": scores}
    return SemanticSegmentationPostProcessorOutput(data=data)


def panoptic_segments(
    classes: Tensor,
    masks: Tensor,
    sizes: list[Size],
    *,
    threshold: float,
    mask_threshold: float,
    overlap_threshold: float,
    fused: Collection[int],
    input_size: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Return the segment of every pixel, 0 = void, and facts of each segment."""
    results = []
    for class_logits, mask_logits, size in zip(classes, masks, sizes, strict=True):
        if not any_kept(class_logits, threshold):
            results.append(nothing(size))
            continue
        segment_map, segments = panoptic_inference(
            class_logits,
            mask_logits,
            size,
            thing_classes=range(class_logits.shape[-1] - 1),  # nothing is joined here, see _number
            object_mask_threshold=threshold,
            mask_threshold=mask_threshold,
            overlap_threshold=overlap_threshold,
            input_size=input_size or mask_logits.shape[-2:],
            resize="probabilities",
            area="weighted",
        )
        ids = _number([segment["category_id"] for segment in segments], fused)
        if ids != list(range(1, len(ids) + 1)):
            table = torch.tensor([0, *ids], dtype=torch.int32, device=segment_map.device)
            segment_map = table[segment_map]
        infos = [
            {
                "id": number,
                "label_id": segment["category_id"],
                "was_fused": segment["category_id"] in fused,
                "score": round(segment["score"], 6),
            }
            for number, segment in zip(ids, segments, strict=True)
        ]
        results.append({"segmentation": segment_map, "segments_info": infos})
    return results


def nothing(size: Size) -> dict[str, Any]:
    """Return transformers' result for an image without segments: another dtype, on the CPU."""
    return {"segmentation": torch.zeros(size) - 1, "segments_info": []}


def painted_instances(
    classes: Tensor,
    masks: Tensor,
    sizes: list[Size],
    *,
    threshold: float,
    return_coco_annotation: bool | None,
    return_binary_maps: bool | None,
    input_size: Size | None = None,
    as_run: Callable[[np.ndarray], list[Any]] = whole_run,
) -> list[dict[str, Any]]:
    """Return the instances; transformers too ignores the two thresholds of masks here.

    The masks are resized by nearest neighbour, which commutes with everything that is done to single pixels. So they
    are painted at the prediction's size, and the finished map is resized once.
    """
    if return_coco_annotation and return_binary_maps:
        raise ValueError("return_coco_annotation and return_binary_maps can not be both set to True.")
    results = []
    for class_logits, mask_logits, size in zip(classes, masks, sizes, strict=True):
        query, label, score, inside = _rank_instances(class_logits, mask_logits, threshold, input_size)
        small_size = input_size or (mask_logits.shape[-2], mask_logits.shape[-1])
        rows, columns = (nearest_index(small_size[axis], size[axis], query.device).numpy() for axis in (0, 1))
        small, painted = paint_masks(inside, query.numpy(), small_size[1], rows, columns)
        query, label, score = (values[torch.from_numpy(painted)] for values in (query, label, score))
        infos = [
            {"id": place, "label_id": category, "was_fused": False, "score": round(value, 6)}
            for place, (category, value) in enumerate(zip(label.tolist(), score.tolist(), strict=True))
        ]
        segmentation: Any
        if return_coco_annotation:
            segmentation = [as_run(runs) for runs in row_runs(small, rows, columns)]
        elif return_binary_maps and len(query):
            bits = np.unpackbits(inside[query.numpy()], axis=-1, count=small_size[1], bitorder="little")
            segmentation = torch.from_numpy(bits[:, rows][..., columns]).float().to(mask_logits.device)
        else:
            segmentation = torch.from_numpy(small[rows].astype(np.float32)[:, columns])
        results.append({"segmentation": segmentation, "segments_info": infos})
    return results


def any_kept(class_logits: Tensor, threshold: float) -> bool:
    """Return whether some query's most probable class is an object with a probability above the threshold."""
    score, label = class_logits.softmax(-1).max(-1)
    return bool(((label < class_logits.shape[-1] - 1) & (score > threshold)).any())


def _number(categories: list[int], fused: Collection[int]) -> list[int]:
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


def _rank_instances(
    class_logits: Tensor, mask_logits: Tensor, threshold: float, input_size: Size | None
) -> tuple[Tensor, Tensor, Tensor, np.ndarray]:
    """Return place of the mask, class and score of the pairs (query, class) that reach a score, and the packed masks.

    The order is transformers': that of an unsorted top Q of the most probable pairs.
    """
    num_classes = class_logits.shape[1] - 1
    probability, index = F.softmax(class_logits, dim=-1)[:, :-1].flatten().topk(len(class_logits), sorted=False)
    possible = probability.double() >= 0.999 * threshold  # a score is at most the class probability, but for rounding
    probability, index = probability[possible], index[possible]
    needed, which = index.div(num_classes, rounding_mode="floor").unique(return_inverse=True)
    mean, inside = _means_and_masks(mask_logits, needed, input_size)
    probability, which = probability.cpu(), which.cpu()
    if has_positive_masks(mask_logits):
        # Where rounding may decide whether a score is reached, the mean is summed as transformers sums it.
        doubtful = (probability * mean[which] - threshold).abs() < _NEAR * threshold
        for place in which[doubtful].unique().tolist():
            mean[place] = _composed_masks(_logits_of(mask_logits, needed[place : place + 1], input_size))[0][0]
    score = probability * mean[which]
    reached = score.double() >= threshold
    return which[reached], (index % num_classes).cpu()[reached], score[reached], inside


def _means_and_masks(mask_logits: Tensor, needed: Tensor, input_size: Size | None) -> tuple[Tensor, np.ndarray]:
    """Return the mean probability inside each mask (n,) float32 and the packed masks of the queries."""
    size = input_size or (mask_logits.shape[-2], mask_logits.shape[-1])
    if tuple(mask_logits.shape[-2:]) == size and has_positive_masks(mask_logits):
        return _summed_masks(mask_logits, needed)  # copies no logits
    means, masks = [torch.zeros(0)], [np.zeros((0, size[0], (size[1] + 7) // 8), np.uint8)]
    for some in needed.split(_QUERIES_AT_ONCE) if len(needed) else ():
        logits = _logits_of(mask_logits, some, size)
        native = has_positive_masks(logits)
        mean, bits = _summed_masks(logits, torch.arange(len(logits))) if native else _composed_masks(logits)
        means.append(mean.cpu())
        masks.append(bits)
    return torch.cat(means), np.concatenate(masks)


def _logits_of(mask_logits: Tensor, queries: Tensor, size: Size | None) -> Tensor:
    """Return the mask logits of some queries, resized where transformers does."""
    logits = mask_logits[queries]
    if size is None or tuple(logits.shape[-2:]) == size:
        return logits
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]


def _summed_masks(logits: Tensor, queries: Tensor) -> tuple[Tensor, np.ndarray]:
    """Return what `_composed_masks` does, in one pass and with more exact sums."""
    sums, pixels, bits = positive_masks(logits, queries)
    return sums.float() / (pixels.float() + 1e-6), bits


def _composed_masks(logits: Tensor) -> tuple[Tensor, np.ndarray]:
    """Return the mean probability inside each mask (n,), summed as transformers does, and the packed masks."""
    inside = logits > 0
    weight = inside.flatten(1).float()  # a 16-bit sum would end at 65504 pixels
    mean = (logits.flatten(1).sigmoid() * weight).sum(1) / (weight.sum(1) + 1e-6)
    return mean, np.packbits(inside.cpu().numpy(), axis=-1, bitorder="little")


def run_lengths(segmentation: Tensor, as_run: Callable[[np.ndarray], list[Any]] = whole_run) -> list[list[Any]]:
    """Encode each id of a map, void included, by the starts and lengths of its runs, row by row, starts from 1.

    `as_run` makes of the numbers what the processor's own function hands out.
    """
    ids = segmentation.to("cpu", torch.int32).numpy().reshape(-1, segmentation.shape[-1])
    return [as_run(runs) for runs in row_runs(ids, np.arange(ids.shape[0]), np.arange(ids.shape[1]))]
