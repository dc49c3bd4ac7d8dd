"""The image processors of transformers' models, accelerated, against transformers as installed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from benchmarks import scenes
from benchmarks.bench_semantic_inference import allowed_disagreement, disagreement
from benchmarks.case import Case, case_name
from maskformer_ext.integrations.transformers import accelerate

SMALL = {"queries": 8, "kept": 4, "classes": 9, "size": (16, 32), "target_size": (64, 128)}
ON_GPU = [
    *[{"model": "Mask2Former", "task": task} for task in ("semantic", "panoptic", "instance")],
    *[{"model": "OneFormer", "task": task} for task in ("semantic", "panoptic", "instance")],
    *[{"model": "Eomt", "task": task} for task in ("semantic", "panoptic", "instance")],
]


def _processor(model: str, target_size: tuple[int, int]) -> Any:
    import transformers

    made: Any = getattr(transformers, f"{model}ImageProcessor")
    if model == "Eomt":
        return made(size={"shortest_edge": target_size[0], "longest_edge": target_size[1]})
    if model == "OneFormer":  # its constructor wants a file of class names, which these methods do not read
        processor = made.__new__(made)
        processor.class_info_file = ""
        return processor
    return made()


def build(
    *,
    device: str,
    model: str = "Mask2Former",
    task: str = "semantic",
    queries: int = 100,
    kept: int = 30,
    classes: int = 150,
    size: tuple[int, int] = (256, 512),
    target_size: tuple[int, int] = (1024, 2048),
) -> Case:
    """Make predictions in which `kept` queries are sure of a class. EoMT's network input has the size of the output."""
    size, target_size = (size[0], size[1]), (target_size[0], target_size[1])  # lists in records
    outputs = scenes.predictions(queries, kept, classes, size, device)
    outputs.patch_offsets = None
    theirs = _processor(model, target_size)
    ours = copy.copy(theirs)
    accelerate(None, ours, verbose=False)
    fuse = {"label_ids_to_fuse": set[int]()} if task == "panoptic" and model != "Eomt" else {}

    def segmentation(processor: Any) -> torch.Tensor:
        method = getattr(processor, f"post_process_{task}_segmentation")
        (result,) = method(outputs, target_sizes=[target_size], **fuse)
        return result if task == "semantic" else result["segmentation"]

    return Case(
        op="post_processing",
        title=f"{model} {task}, Q {queries}, K {classes}, {kept} kept, {size[0]}x{size[1]} -> "
        f"{target_size[0]}x{target_size[1]}",
        ours=lambda: segmentation(ours),
        peers={"transformers": lambda: segmentation(theirs)},
        tolerance=allowed_disagreement(device, "float32"),
        inputs={"class_logits": outputs.class_queries_logits, "mask_logits": outputs.masks_queries_logits},
        error=disagreement,
        kernels=("semantic_inference", "panoptic_inference", "instance_masks"),
        notes=("generated confident predictions, no trained model; the error is the share of pixels that differ",),
    )


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_post_processing(compare, parameters):
    """Every processor and task."""
    compare(**parameters)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_post_processing_on_a_gpu(compare_on_gpu, parameters):
    """The same on a GPU."""
    compare_on_gpu(**parameters)
