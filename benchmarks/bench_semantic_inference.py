"""semantic_inference against the original's composition and transformers' post-processing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from transformers import MaskFormerImageProcessor

from benchmarks import scenes
from benchmarks.case import Case
from maskformer_ext.ops import semantic_inference

SMALL = {"queries": 5, "classes": 4, "size": (16, 32), "target_size": (64, 128)}


def disagreement(labels: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the share of pixels with another label."""
    return float((labels != reference).float().mean())


def build(
    *,
    device: str,
    resize: str = "logits",
    logits: str = "random",
    queries: int = 100,
    classes: int = 150,
    size: tuple[int, int] = (256, 512),
    target_size: tuple[int, int] = (1024, 2048),
) -> Case:
    """Make predictions of one image, `random` ones, where no query can be left out, or `confident` ones.

    `resize` is the order of operations, "logits" or "scores".
    """
    if logits == "random":
        generator = torch.Generator().manual_seed(5)
        class_logits = (3 * torch.randn(queries, classes + 1, generator=generator)).to(device)
        mask_logits = (3 * torch.randn(queries, *size, generator=generator)).to(device)
        outputs = SimpleNamespace(class_queries_logits=class_logits[None], masks_queries_logits=mask_logits[None])
    else:
        outputs = scenes.predictions(queries, queries * 3 // 10, classes, size, device)
        class_logits, mask_logits = outputs.class_queries_logits[0], outputs.masks_queries_logits[0]
    processor = MaskFormerImageProcessor()

    def composition():
        masks = F.interpolate(mask_logits[None], size=target_size, mode="bilinear", align_corners=False)[0].sigmoid()
        return torch.einsum("qc,qhw->chw", class_logits.softmax(-1)[:, :-1], masks).argmax(0)

    def transformers():
        return processor.post_process_semantic_segmentation(outputs, target_sizes=[target_size])[0]

    options = {} if resize == "logits" else {"input_size": size, "resize": "scores"}
    return Case(
        op="semantic_inference",
        title=f"Q {queries}, K {classes}, {size[0]}x{size[1]} -> {target_size[0]}x{target_size[1]}, "
        f"{logits} logits, resize {resize}",
        ours=lambda: semantic_inference(class_logits, mask_logits, target_size, **options),
        peers={"composition": composition} if resize == "logits" else {"transformers": transformers},
        tolerance=1e-5,
        inputs={"class_logits": class_logits, "mask_logits": mask_logits},
        error=disagreement,
        notes=("generated logits, no trained model; the error is the share of pixels with another label",),
    )


@pytest.mark.parametrize("classes", [19, 150])
@pytest.mark.parametrize("resize", ["logits", "scores"])
def test_semantic_inference(compare, classes, resize):
    """Both orders of operations: the original's instance recipes', and transformers'."""
    compare(classes=classes, resize=resize)


@pytest.mark.parametrize("classes", [19, 150])
def test_semantic_inference_of_confident_predictions(compare, classes):
    """Most queries cannot matter in most places, as with a trained model."""
    compare(classes=classes, logits="confident")
