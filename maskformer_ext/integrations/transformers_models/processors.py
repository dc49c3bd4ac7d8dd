"""The image processors of transformers on our ops: what stands before their methods of post-processing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maskformer_ext.integrations.transformers_models import eomt_post_processing as eomt
from maskformer_ext.integrations.transformers_models.parts import Part, is_older_than
from maskformer_ext.integrations.transformers_models.post_processing import (
    check_count,
    ids_to_fuse,
    nothing,
    numpy_run,
    painted_instances,
    panoptic_segments,
    run_lengths,
    semantic_maps,
    sizes_of,
)
from maskformer_ext.integrations.transformers_models.rf_detr_post_processing import RfDetrProcessor
from maskformer_ext.ops.panoptic_inference import logit_segments

_MASK2FORMER_SIZE = (384, 384)  # what transformers resizes mask logits to, whatever the model


def _is_pil(processor: Any) -> bool:
    """Return whether a processor is of the classes that work on NumPy arrays, which differ in details.

    Those have ``Pil`` in their names now. Before, the others had ``Fast`` in theirs.
    """
    backends = "TorchvisionBackend", "BaseImageProcessorFast"
    return not any(base.__name__ in backends for base in type(processor).__mro__)


def _asked(return_segmentation_scores: bool) -> dict[str, bool]:
    """Return the option where it is set, since older versions do not know it."""
    return {"return_segmentation_scores": True} if return_segmentation_scores else {}


def _tensor_run(run: list[int]) -> list[Any]:
    return list(torch.tensor(run))


def _queries(self: Any, outputs: Any) -> tuple[Tensor, Tensor]:
    return outputs.class_queries_logits, outputs.masks_queries_logits


def _semantic(
    self: Any, outputs: Any, target_sizes: list[tuple[int, int]] | None = None, return_segmentation_scores: bool = False
) -> list[Any]:
    """Return the class of every pixel, as transformers' method of this name."""
    classes, masks = self._ext_predictions(outputs)
    check_count(target_sizes, len(classes))
    sizes = sizes_of(target_sizes, self._ext_input_size or masks.shape[-2:], len(classes))
    return semantic_maps(
        classes, masks, sizes, input_size=self._ext_input_size, return_scores=return_segmentation_scores
    )


def _panoptic(
    self: Any,
    outputs: Any,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
    label_ids_to_fuse: set[int] | None = None,
    target_sizes: list[tuple[int, int]] | None = None,
) -> list[dict[str, Any]]:
    """Return the segment of every pixel, as transformers' method of this name."""
    fused = ids_to_fuse(label_ids_to_fuse)
    classes, masks = self._ext_predictions(outputs)
    return panoptic_segments(
        classes,
        masks,
        sizes_of(target_sizes, self._ext_input_size or masks.shape[-2:], len(classes)),
        threshold=threshold,
        mask_threshold=mask_threshold,
        overlap_threshold=overlap_mask_area_threshold,
        fused=fused,
        input_size=self._ext_input_size,
    )


def _instances(
    self: Any,
    outputs: Any,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
    target_sizes: list[tuple[int, int]] | None = None,
    return_coco_annotation: bool | None = False,
    return_binary_maps: bool | None = False,
) -> list[dict[str, Any]]:
    """Return the instances, as transformers' method of this name."""
    classes, masks = self._ext_predictions(outputs)
    return painted_instances(
        classes,
        masks,
        sizes_of(target_sizes, self._ext_input_size or masks.shape[-2:], len(classes)),
        threshold=threshold,
        return_coco_annotation=return_coco_annotation,
        return_binary_maps=return_binary_maps,
        input_size=self._ext_input_size,
        as_run=numpy_run if _is_pil(self) else list,
    )


class MaskFormerProcessor:
    """Before the image processors of MaskFormer."""

    _ext_input_size = None
    _ext_predictions = _queries
    post_process_semantic_segmentation = _semantic
    post_process_panoptic_segmentation = _panoptic
    post_process_instance_segmentation = _instances


class Mask2FormerProcessor:
    """Before the image processors of Mask2Former: mask logits are resized first, whatever the network's input was."""

    _ext_input_size = _MASK2FORMER_SIZE
    _ext_predictions = _queries
    post_process_semantic_segmentation = _semantic
    post_process_panoptic_segmentation = _panoptic
    post_process_instance_segmentation = _instances


class OneFormerProcessor:
    """Before the image processors of OneFormer.

    They smooth where they shrink, the one for PIL in semantic maps not. There transformers' own code runs. Instances
    are painted as panoptic segments, with logits in place of probabilities.
    """

    _ext_input_size = None
    _ext_predictions = _queries

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: list[tuple[int, int]] | None = None,
        return_segmentation_scores: bool = False,
    ) -> list[Any]:
        """Return the class of every pixel, as transformers' method of this name."""
        if not _is_pil(self) and self._ext_smooths(outputs, target_sizes):
            parent: Any = super()
            return parent.post_process_semantic_segmentation(
                outputs, target_sizes, **_asked(return_segmentation_scores)
            )
        return _semantic(self, outputs, target_sizes, return_segmentation_scores)

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
        return _panoptic(self, outputs, *options)

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
                segmentation = run_lengths(segment_map, numpy_run if _is_pil(self) else _tensor_run)
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


class EomtProcessor:
    """Before the image processors of EoMT."""

    size: Any

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: list[tuple[int, int]],
        size: dict[str, int] | None = None,
        return_segmentation_scores: bool = False,
    ) -> list[Any]:
        """Return the class of every pixel, as transformers' method of this name; split images are stitched."""
        classes, masks = outputs.class_queries_logits, outputs.masks_queries_logits
        network = size if size is not None else self.size
        if outputs.patch_offsets:
            targets = sizes_of(target_sizes, (), len(target_sizes))
            maps = eomt.stitched_semantic(
                classes, masks, outputs.patch_offsets, targets, network, return_scores=return_segmentation_scores
            )
            if maps is None:
                parent: Any = super()
                return parent.post_process_semantic_segmentation(
                    outputs, target_sizes, size, **_asked(return_segmentation_scores)
                )
            return maps
        sizes = sizes_of(target_sizes, (), len(classes))
        input_size = eomt.input_size_of(network)
        return semantic_maps(classes, masks, sizes, input_size=input_size, return_scores=return_segmentation_scores)

    def post_process_panoptic_segmentation(
        self,
        outputs: Any,
        target_sizes: list[tuple[int, int]],
        threshold: float = 0.8,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        stuff_classes: list[int] | None = None,
        size: dict[str, int] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the segment of every pixel, as transformers' method of this name."""
        classes, masks = outputs.class_queries_logits, outputs.masks_queries_logits
        network = size if size is not None else self.size
        return [
            eomt.panoptic(
                *image,
                network,
                threshold=threshold,
                mask_threshold=mask_threshold,
                overlap_threshold=overlap_mask_area_threshold,
                stuff_classes=stuff_classes,
            )
            for image in zip(classes, masks, sizes_of(target_sizes, (), len(classes)), strict=True)
        ]

    def post_process_instance_segmentation(
        self,
        outputs: Any,
        target_sizes: list[tuple[int, int]],
        threshold: float = 0.8,
        size: dict[str, int] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the instances, as transformers' method of this name."""
        classes, masks = outputs.class_queries_logits, outputs.masks_queries_logits
        network = size if size is not None else self.size
        sizes = sizes_of(target_sizes, (), len(classes))
        return [
            eomt.instances(*image, network, threshold=threshold) for image in zip(classes, masks, sizes, strict=True)
        ]


def _detr_predictions(self: Any, outputs: Any) -> tuple[Tensor, Tensor]:
    return outputs.logits, outputs.pred_masks


class DetrProcessor:
    """Before the image processors of DETR: instances are panoptic segments of which none joins another."""

    _ext_input_size = None
    _ext_predictions = _detr_predictions
    post_process_semantic_segmentation = _semantic
    post_process_panoptic_segmentation = _panoptic

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
        results = _panoptic(self, outputs, *options)
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
    post_process_panoptic_segmentation = _panoptic
    post_process_instance_segmentation = DetrProcessor.post_process_instance_segmentation

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: list[tuple[int, int]] | None = None,
        return_segmentation_scores: bool = False,
    ) -> list[Any]:
        """Return the class of every pixel, as transformers' method of this name."""
        if is_older_than(5, 0):
            return _semantic(self, outputs, target_sizes, return_segmentation_scores)
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
