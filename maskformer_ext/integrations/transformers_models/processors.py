"""The image processors of transformers on our ops: what stands before their methods of post-processing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maskformer_ext.integrations.transformers_models.eomt_processor import EomtProcessor
from maskformer_ext.integrations.transformers_models.oneformer_processor import OneFormerProcessor
from maskformer_ext.integrations.transformers_models.parts import Part, is_older_than
from maskformer_ext.integrations.transformers_models.post_processing import (
    check_count,
    numpy_run,
    run_lengths,
    semantic_maps,
    sizes_of,
)
from maskformer_ext.integrations.transformers_models.processor_methods import (
    instances,
    panoptic,
    queries,
    semantic,
)
from maskformer_ext.integrations.transformers_models.rf_detr_post_processing import RfDetrProcessor

_MASK2FORMER_SIZE = (384, 384)  # what transformers resizes mask logits to, whatever the model


class MaskFormerProcessor:
    """Before the image processors of MaskFormer."""

    _ext_input_size = None
    _ext_predictions = queries
    post_process_semantic_segmentation = semantic
    post_process_panoptic_segmentation = panoptic
    post_process_instance_segmentation = instances


class Mask2FormerProcessor:
    """Before the image processors of Mask2Former: mask logits are resized first, whatever the network's input was."""

    _ext_input_size = _MASK2FORMER_SIZE
    _ext_predictions = queries
    post_process_semantic_segmentation = semantic
    post_process_panoptic_segmentation = panoptic
    post_process_instance_segmentation = instances


def _detr_predictions(self: Any, outputs: Any) -> tuple[Tensor, Tensor]:
    return outputs.logits, outputs.pred_masks


class DetrProcessor:
    """Before the image processors of DETR: instances are panoptic segments of which none joins another."""

    _ext_input_size = None
    _ext_predictions = _detr_predictions
    post_process_semantic_segmentation = semantic
    post_process_panoptic_segmentation = panoptic

    def post_process_instance_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        target_sizes: list[tuple[int, int]] | None = None,
        return_coco_annotation: bool | None = False,
    ) -> list[dict[str, Any]]:
        """Return the instances, as transformers' method of this name."""
        options = (threshold, mask_threshold, overlap_mask_area_threshold, set[int](), target_sizes)
        results = panoptic(self, outputs, *options)
        if return_coco_annotation:
            for result in results:
                if result["segments_info"] or result["segmentation"].dtype == torch.int32:
                    result["segmentation"] = run_lengths(result["segmentation"], numpy_run)
        return results


class ConditionalDetrProcessor:
    """Before the image processors of Conditional DETR: as DETR, but that every column is a class of semantic maps.

    Before 5.0 the last column was none, as in DETR.
    """

    _ext_input_size = None
    _ext_predictions = _detr_predictions
    post_process_panoptic_segmentation = panoptic
    post_process_instance_segmentation = DetrProcessor.post_process_instance_segmentation

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: list[tuple[int, int]] | None = None,
        return_segmentation_scores: bool = False,
    ) -> list[Any]:
        """Return the class of every pixel, as transformers' method of this name."""
        if is_older_than(5, 0):
            return semantic(self, outputs, target_sizes, return_segmentation_scores)
        classes, masks = outputs.logits, outputs.pred_masks
        check_count(target_sizes, len(classes))
        sizes = sizes_of(target_sizes, masks.shape[-2:], len(classes))
        none = torch.full_like(classes[..., :1], -torch.inf)  # of probability 0
        return semantic_maps(torch.cat((classes, none), -1), masks, sizes, return_scores=return_segmentation_scores)


def _part(model: str, mixin: type, by: str, needs: tuple[str, ...] = ()) -> Part:
    return Part(tuple(f"{model}ImageProcessor{kind}" for kind in ("", "Pil", "Fast")), mixin, by, needs)


PROCESSOR_PARTS = (
    _part("MaskFormer", MaskFormerProcessor, "semantic_inference, panoptic_inference, instances painted once"),
    _part("Mask2Former", Mask2FormerProcessor, "semantic_inference, panoptic_inference, instances painted once"),
    _part("OneFormer", OneFormerProcessor, "semantic_inference, panoptic_inference"),
    _part("Eomt", EomtProcessor, "semantic_inference, panoptic_inference, instance_masks", needs=("size",)),
    _part("Detr", DetrProcessor, "semantic_inference, panoptic_inference"),
    _part("ConditionalDetr", ConditionalDetrProcessor, "semantic_inference, panoptic_inference"),
    _part("RfDetr", RfDetrProcessor, "instance_masks, each query's mask made once"),
)
