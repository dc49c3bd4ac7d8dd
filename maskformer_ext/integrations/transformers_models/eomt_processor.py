"""The image processors of EoMT: what stands before their methods of post-processing."""

from __future__ import annotations

from typing import Any

from maskformer_ext.integrations.transformers_models import eomt_post_processing as eomt
from maskformer_ext.integrations.transformers_models.post_processing import (
    semantic_maps,
    sizes_of,
)
from maskformer_ext.integrations.transformers_models.processor_methods import (
    asked,
)


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
                    outputs, target_sizes, size, **asked(return_segmentation_scores)
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
