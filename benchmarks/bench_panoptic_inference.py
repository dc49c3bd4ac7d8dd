"""panoptic_inference against transformers' post-processing, and against the original's composition."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks import scenes
from benchmarks.bench_semantic_inference import allowed_disagreement, disagreement
from benchmarks.case import Case, case_name
from maskformer_ext.ops import panoptic_inference

SMALL = {"queries": 8, "kept": 4, "size": (16, 32), "target_size": (64, 128)}
ON_GPU = [{"mode": "original"}, {"mode": "original", "dtype": "bfloat16"}, {"mode": "transformers"}]
_CLASSES = 133


def build(
    *,
    device: str,
    mode: str = "transformers",
    dtype: str = "float32",
    queries: int = 100,
    kept: int = 30,
    size: tuple[int, int] = (256, 512),
    target_size: tuple[int, int] = (1024, 2048),
) -> Case:
    """Make predictions in which `kept` queries are sure of a class. `mode` is "transformers" or "original"."""
    outputs = scenes.predictions(queries, kept, _CLASSES, size, device)
    outputs = SimpleNamespace(**{name: value.to(getattr(torch, dtype)) for name, value in vars(outputs).items()})
    class_logits, mask_logits = outputs.class_queries_logits[0], outputs.masks_queries_logits[0]

    def composition():
        score, label = class_logits.softmax(-1).max(-1)
        keep = label.ne(_CLASSES) & (score > 0.8)
        masks = F.interpolate(mask_logits[None], size=target_size, mode="bilinear", align_corners=False)[0].sigmoid()
        score, masks = score[keep], masks[keep]
        winner = (score.view(-1, 1, 1) * masks).argmax(0)
        segment_map, count = torch.zeros(target_size, dtype=torch.int32, device=device), 0
        for query in range(len(score)):
            mask = winner == query
            area, own = int(mask.sum()), int((masks[query] >= 0.5).sum())
            if area > 0 and own > 0 and area / own >= 0.8:
                count += 1
                segment_map[mask] = count
        return segment_map

    def ours():
        options: dict[str, Any] = {"thing_classes": range(_CLASSES), "object_mask_threshold": 0.8}
        return panoptic_inference(class_logits, mask_logits, target_size, **options)[0]

    options: dict[str, Any] = {"target_sizes": [target_size], "label_ids_to_fuse": set(), "threshold": 0.8}
    in_mode = mode == "transformers"
    processors: tuple[Any, Any] = scenes.image_processors() if in_mode else (None, None)
    theirs, accelerated = processors
    return Case(
        op="panoptic_inference",
        title=f"Q {queries}, {kept} kept, {size[0]}x{size[1]} -> {target_size[0]}x{target_size[1]}, {mode}'s mode"
        + ("" if dtype == "float32" else f", {dtype}"),
        ours=(lambda: accelerated.post_process_panoptic_segmentation(outputs, **options)[0]["segmentation"])
        if in_mode
        else ours,
        peers={"transformers": lambda: theirs.post_process_panoptic_segmentation(outputs, **options)[0]["segmentation"]}
        if in_mode
        else {"composition": composition},
        tolerance=allowed_disagreement(device, dtype),
        inputs={"class_logits": class_logits, "mask_logits": mask_logits},
        error=disagreement,
        notes=("generated confident predictions, no trained model; the error is the share of pixels that differ",),
    )


@pytest.mark.parametrize("mode", ["transformers", "original"])
def test_panoptic_inference(compare, mode):
    """Both orders of operations."""
    compare(mode=mode)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_panoptic_inference_on_a_gpu(compare_on_gpu, parameters):
    """Both orders of operations."""
    compare_on_gpu(**parameters)
