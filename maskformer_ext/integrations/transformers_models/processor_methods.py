"""The methods of post-processing that most image processors of transformers have in common.

Each is for a mixin with `_ext_predictions`, its class and mask logits in an output, and `_ext_input_size`, what mask
logits are resized to first.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from maskformer_ext.integrations.transformers_models.post_processing import (
    check_count,
    ids_to_fuse,
    numpy_run,
    painted_instances,
    panoptic_segments,
    semantic_maps,
    sizes_of,
    whole_run,
)


def is_pil(processor: Any) -> bool:
    """Return whether a processor is of the classes that work on NumPy arrays, which differ in details.

    Those have ``Pil`` in their names now. Before, the others had ``Fast`` in theirs.
    """
    backends = "TorchvisionBackend", "BaseImageProcessorFast"
    return not any(base.__name__ in backends for base in type(processor).__mro__)


def asked(return_segmentation_scores: bool) -> dict[str, bool]:
    """Return the option where it is set, since older versions do not know it."""
    return {"return_segmentation_scores": True} if return_segmentation_scores else {}


def queries(self: Any, outputs: Any) -> tuple[Tensor, Tensor]:
    return outputs.class_queries_logits, outputs.masks_queries_logits


def semantic(
    self: Any, outputs: Any, target_sizes: list[tuple[int, int]] | None = None, return_segmentation_scores: bool = False
) -> list[Any]:
    """Return the class of every pixel, as transformers' method of this name."""
    classes, masks = self._ext_predictions(outputs)
    check_count(target_sizes, len(classes))
    sizes = sizes_of(target_sizes, self._ext_input_size or masks.shape[-2:], len(classes))
    return semantic_maps(
        classes, masks, sizes, input_size=self._ext_input_size, return_scores=return_segmentation_scores
    )


def panoptic(
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


def instances(
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
        as_run=numpy_run if is_pil(self) else whole_run,
    )
