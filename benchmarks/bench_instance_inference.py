"""instance_inference against transformers' post-processing with run lengths, and against the original's composition."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F

from benchmarks import scenes
from benchmarks.case import Case, case_name, optional
from maskformer_ext.ops import instance_inference

SMALL = {"instances": 4, "size": (16, 32), "target_size": (64, 128)}
ON_GPU = [*({"instances": instances, "mode": "transformers"} for instances in (30, 100)), {"mode": "original"}]
coco_mask = optional("pycocotools.mask")
_CLASSES = 80


def build(
    *,
    device: str,
    mode: str = "transformers",
    instances: int = 30,
    size: tuple[int, int] = (256, 512),
    target_size: tuple[int, int] = (1024, 2048),
) -> Case:
    """Make predictions of at least 100 queries, `instances` of them confident. `mode`: transformers or original."""
    outputs = scenes.predictions(max(100, instances), instances, _CLASSES, size, device)
    class_logits, mask_logits = outputs.class_queries_logits[0], outputs.masks_queries_logits[0]

    def composition():
        masks = F.interpolate(mask_logits[None], size=target_size, mode="bilinear", align_corners=False)[0]
        probability = class_logits.softmax(-1)[:, :-1].flatten()
        value, index = probability.topk(instances)
        masks = masks[index // _CLASSES]
        inside = (masks > 0).float()
        score = value * (masks.sigmoid() * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
        binary = np.asfortranarray(inside.bool().cpu().numpy().transpose(1, 2, 0).view(np.uint8))
        return SimpleNamespace(score=score, rle=coco_mask.encode(binary))

    def ours():
        found = instance_inference(class_logits, mask_logits, target_size, top_k=instances)
        return SimpleNamespace(score=found.scores, rle=found.rle())

    def error(result, reference) -> float:
        """Compare scores and masks. Masks may differ by single pixels that lie on the threshold."""
        overlap = [coco_mask.iou([a], [b], [0])[0, 0] for a, b in zip(result.rle, reference.rle, strict=True)]
        return max(float((result.score - reference.score).abs().max()), 1 - min(overlap))

    def scores_where_all_else_is_equal(result, reference) -> float:
        """Compare scores. Labels and run lengths must be equal."""
        worst = 0.0 if result["segmentation"] == reference["segmentation"] else float("inf")
        for info, expected in zip(result["segments_info"], reference["segments_info"], strict=True):
            worst = max(worst, abs(info["score"] - expected["score"]))
            if {**info, "score": 0.0} != {**expected, "score": 0.0}:
                return float("inf")
        return worst

    options: dict[str, Any] = {"target_sizes": [target_size], "return_coco_annotation": True}
    in_mode = mode == "transformers"
    processors: tuple[Any, Any] = scenes.image_processors() if in_mode else (None, None)
    theirs, accelerated = processors
    return Case(
        op="instance_inference",
        title=f"{instances} instances, {size[0]}x{size[1]} -> {target_size[0]}x{target_size[1]}, RLE, {mode}'s mode",
        ours=(lambda: accelerated.post_process_instance_segmentation(outputs, **options)[0]) if in_mode else ours,
        peers={"transformers": lambda: theirs.post_process_instance_segmentation(outputs, **options)[0]}
        if in_mode
        else ({"composition": composition} if coco_mask else {}),
        no_peer="pycocotools is not installed",
        tolerance=1e-3,
        inputs={"class_logits": class_logits, "mask_logits": mask_logits},
        error=scores_where_all_else_is_equal if in_mode else error,
        kernels=("instance_masks",),
        notes=("generated confident predictions, no trained model",),
    )


@pytest.mark.parametrize("instances", [30, 100])
@pytest.mark.parametrize("mode", ["transformers", "original"])
def test_instance_inference(compare, instances, mode):
    """Both orders of operations, for few and many instances."""
    compare(instances=instances, mode=mode)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_instance_inference_on_a_gpu(compare_on_gpu, parameters):
    """Few and many instances, run lengths included."""
    compare_on_gpu(**parameters)
