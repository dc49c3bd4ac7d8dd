"""Post-processing of transformers' RF-DETR on our ops: a pixel belongs to the best instance that has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.integrations.transformers_models.eomt_post_processing import masks_in_boxes
from maskformer_ext.integrations.transformers_models.post_processing import Size, numpy_run, run_lengths, sizes_of
from maskformer_ext.ops.support.instance_masks import resized_masks

_QUERIES_AT_ONCE = 16  # of which masks are made; bounds the temporaries


class RfDetrProcessor:
    """Before the image processor of RF-DETR: no resized logits are stored, and a query's mask is made once."""

    def post_process_instance_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.5,
        mask_threshold: float = 0.0,
        target_sizes: list[tuple[int, int]] | None = None,
        return_coco_annotation: bool = False,
        return_binary_maps: bool = False,
        top_k: int | None = None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Return the instances, as transformers' method of this name; `mask_threshold` is a logit there too."""
        if return_coco_annotation and return_binary_maps:
            raise ValueError("`return_coco_annotation` and `return_binary_maps` cannot both be `True`.")
        probability = outputs.logits.sigmoid()
        images, queries, classes = probability.shape
        count = min(queries if top_k is None else top_k, queries * classes)
        scores, index = probability.reshape(images, -1).topk(count, dim=1)
        sizes = sizes_of(target_sizes, outputs.pred_masks.shape[-2:], images)
        results = []
        for score, pair, masks, size in zip(scores, index, outputs.pred_masks, sizes, strict=True):
            kept = score > threshold
            query, label = pair[kept] // classes, (pair[kept] % classes).tolist()
            collect = _binary_maps if return_binary_maps and len(query) else _painted
            segmentation, found = collect(masks, query, size, float(mask_threshold))
            value = score[kept].tolist()
            infos = [
                {"id": number, "label_id": label[place], "score": round(value[place], 6)}
                for number, place in enumerate(found, start=1)
            ]
            if return_coco_annotation and len(query):
                segmentation = run_lengths(segmentation, numpy_run)
            results.append({"segmentation": segmentation, "segments_info": infos})
        return results


def _painted(masks: Tensor, query: Tensor, size: Size, threshold: float) -> tuple[Any, list[int]]:
    """Return the map (H, W), and the places in `query` of what has a pixel in it; the first one has a pixel."""
    segmentation = torch.full(size, -1, dtype=torch.int32)
    found: list[int] = []
    first = _first_places(query)
    for some in torch.tensor(first, dtype=torch.int64).split(_QUERIES_AT_ONCE):
        if len(some) == 0:
            break
        logits = masks[query[some.to(query.device)]]
        for place, _, mask, region in masks_in_boxes(logits, some, (size, threshold, None, None)):
            free = mask & (segmentation[region] == -1)
            if free.any():
                found.append(place)
                segmentation[region][free] = len(found)
    return segmentation.to(masks.device), found


def _binary_maps(masks: Tensor, query: Tensor, size: Size, threshold: float) -> tuple[Any, list[int]]:
    """Return a mask (n, H, W) bool of each that has a pixel, and their places in `query`."""
    needed, which = query.unique(return_inverse=True)
    parts = [resized_masks(masks[some], size, threshold, None, None)[1:] for some in needed.split(_QUERIES_AT_ONCE)]
    boxes, packed = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    which = which.cpu()
    found = (boxes[which, 2] > 0).nonzero().flatten()
    bits = np.unpackbits(packed[which[found]].numpy(), axis=-1, count=size[1], bitorder="little")
    return torch.from_numpy(bits).view(torch.bool).to(masks.device), found.tolist()


def _first_places(query: Tensor) -> list[int]:
    """Return where each query occurs first: a second instance of one mask finds no pixel that is free."""
    places: dict[int, int] = {}
    for place, number in enumerate(query.tolist()):
        places.setdefault(number, place)
    return list(places.values())
