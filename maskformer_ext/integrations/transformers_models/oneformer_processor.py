"""The image processors of OneFormer: what stands before their methods of post-processing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from maskformer_ext.integrations.transformers_models.post_processing import (
    nothing,
    numpy_run,
    run_lengths,
    sizes_of,
)
from maskformer_ext.integrations.transformers_models.processor_methods import (
    asked,
    is_pil,
    panoptic,
    queries,
    semantic,
)
from maskformer_ext.ops.panoptic_inference import logit_segments


def _tensor_run(run: np.ndarray) -> list[Any]:
    return list(torch.from_numpy(run))


class OneFormerProcessor:
    """Before the image processors of OneFormer.

    They smooth where they shrink, the one for PIL in semantic maps not. There transformers' own code runs. Instances
    are painted as panoptic segments, with logits in place of probabilities.
    """

    _ext_input_size = None
    _ext_predictions = queries

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: list[tuple[int, int]] | None = None,
        return_segmentation_scores: bool = False,
    ) -> list[Any]:
        """Return the class of every pixel, as transformers' method of this name."""
        if not is_pil(self) and self._ext_smooths(outputs, target_sizes):
            parent: Any = super()
            return parent.post_process_semantic_segmentation(outputs, target_sizes, **asked(return_segmentation_scores))
        return semantic(self, outputs, target_sizes, return_segmentation_scores)

    def post_process_panoptic_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        label_ids_to_fuse: set[int] | None = None,
        target_sizes: list[tuple[int, int]] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the segment of every pixel, as transformers' method of this name."""
        options = (threshold, mask_threshold, overlap_mask_area_threshold, label_ids_to_fuse, target_sizes)
        if self._ext_smooths(outputs, target_sizes):
            parent: Any = super()
            return parent.post_process_panoptic_segmentation(outputs, *options)
        return panoptic(self, outputs, *options)

    def post_process_instance_segmentation(
        self,
        outputs: Any,
        task_type: str = "instance",
        is_demo: bool = True,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        target_sizes: list[tuple[int, int]] | None = None,
        return_coco_annotation: bool | None = False,
    ) -> list[dict[str, Any]]:
        """Return the instances, as transformers' method of this name."""
        classes, masks = outputs.class_queries_logits, outputs.masks_queries_logits
        options = (task_type, is_demo, threshold, mask_threshold, overlap_mask_area_threshold, target_sizes)
        if self._ext_smooths(outputs, target_sizes):
            parent: Any = super()
            return parent.post_process_instance_segmentation(outputs, *options, return_coco_annotation)
        results = []
        for class_logits, mask_logits, size in zip(
            classes, masks, sizes_of(target_sizes, masks.shape[-2:], len(classes)), strict=True
        ):
            score, index = class_logits.softmax(-1)[:, :-1].flatten().topk(len(class_logits), sorted=False)
            query, label = index // (class_logits.shape[-1] - 1), index % (class_logits.shape[-1] - 1)
            kept = score > threshold if is_demo else torch.ones_like(score, dtype=torch.bool)
            if task_type == "panoptic":
                things = torch.tensor(self._ext_things(), dtype=label.dtype, device=label.device)
                kept &= torch.isin(label, things)
            query, labels, score = query[kept], label[kept].tolist(), score[kept]
            if len(query) == 0:
                results.append(nothing(size))
                continue
            if "ade20k" in self._ext_class_info_file() and not is_demo and "instance" in task_type:
                labels = [self._ext_things().index(label) for label in labels]
            segment_map, ids = logit_segments(
                score,
                mask_logits[query],
                size,
                mask_threshold=mask_threshold,
                overlap_threshold=overlap_mask_area_threshold,
            )
            infos = [
                {"id": number, "label_id": label, "was_fused": False, "score": round(value, 6)}
                for number, label, value in zip(ids.tolist(), labels, score.tolist(), strict=True)
                if number > 0
            ]
            segmentation: Any = segment_map
            if return_coco_annotation:
                segmentation = run_lengths(segment_map, numpy_run if is_pil(self) else _tensor_run)
            results.append({"segmentation": segmentation, "segments_info": infos})
        return results

    def _ext_things(self) -> list[int]:
        processor: Any = self
        return list(processor.metadata["thing_ids"])

    def _ext_class_info_file(self) -> str:
        processor: Any = self
        return processor.class_info_file

    def _ext_smooths(self, outputs: Any, target_sizes: Any) -> bool:
        if target_sizes is None:
            return False
        height, width = outputs.masks_queries_logits.shape[-2:]
        return any(size[0] < height or size[1] < width for size in target_sizes)
