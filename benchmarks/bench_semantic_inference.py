"""semantic_inference against the original's composition and transformers' post-processing.

The outputs of a trained model are measured too where two variables are set. `MASKFORMER_EXT_CAMVID_RUN` is the folder
of a run of the `camvid` recipe. `MASKFORMER_EXT_DATA` is the folder of the data sets.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks import scenes
from benchmarks.case import Case, case_name, optional
from maskformer_ext.ops import semantic_inference

SMALL = {"queries": 5, "classes": 4, "size": (16, 32), "target_size": (64, 128)}
ON_GPU = [
    *({"logits": logits, "dtype": dtype} for logits in ("random", "confident") for dtype in ("float32", "bfloat16")),
    {"resize": "scores"},
    *({"size": (1000, 1250), "target_size": (4000, 5000), "dtype": dtype} for dtype in ("float32", "bfloat16")),
]


def disagreement(labels: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the share of pixels with another label. The maps may lie on different devices."""
    return float((labels.cpu() != reference.cpu()).float().mean())


def allowed_disagreement(device: str, dtype: str) -> float:
    """Return the share of pixels that rounding may decide. A GPU's products sum in other orders."""
    return {"cpu": 1e-5, "cuda": 1e-4}[device] if dtype == "float32" else 5e-2


def trained_outputs(size: tuple[int, int], device: str) -> SimpleNamespace:
    """Run a trained CamVid model on a validation image, repeated until it measures four times `size`."""
    from maskformer_ext.checkpoints.models import load_checkpoint
    from maskformer_ext.inference.network import run_network
    from maskformer_ext.media.images import to_pixels

    run, data = Path(os.environ["MASKFORMER_EXT_CAMVID_RUN"]), Path(os.environ["MASKFORMER_EXT_DATA"])
    model, _, _ = load_checkpoint(run, device)
    path = sorted((data / "camvid" / "val").rglob("*.jpg"))[0]
    pixels = to_pixels(path)
    repeats = [-(-4 * extent // have) for extent, have in zip(size, pixels.shape[1:], strict=True)]
    pixels = pixels.repeat(1, *repeats)[None, :, : 4 * size[0], : 4 * size[1]]
    with torch.inference_mode():
        output = run_network(model.eval(), pixels)[0]
    assert output.class_logits is not None and output.mask_logits is not None
    return SimpleNamespace(
        class_queries_logits=output.class_logits[None].clone(), masks_queries_logits=output.mask_logits[None].clone()
    )


def build(
    *,
    device: str,
    resize: str = "logits",
    logits: str = "random",
    dtype: str = "float32",
    queries: int = 100,
    classes: int = 150,
    size: tuple[int, int] = (256, 512),
    target_size: tuple[int, int] = (1024, 2048),
) -> Case:
    """Make predictions of one image.

    Args:
        device: cpu or cuda.
        resize: the order of operations, "logits" or "scores".
        logits: `random`, where no query can be left out, `confident`, or `trained`, a model's.
        dtype: of the logits.
        queries: Q.
        classes: K.
        size: (h, w) of the mask logits.
        target_size: (H, W) of the result.

    A peer that would need more than 8 GB, or more than the GPU has, is left out.
    """
    if logits == "trained":
        outputs = trained_outputs(size, device)
        class_logits, mask_logits = outputs.class_queries_logits[0], outputs.masks_queries_logits[0]
        queries, classes = len(class_logits), class_logits.shape[1] - 1
    elif logits == "random":
        generator = torch.Generator().manual_seed(5)
        class_logits = (3 * torch.randn(queries, classes + 1, generator=generator)).to(device)
        mask_logits = (3 * torch.randn(queries, *size, generator=generator)).to(device)
    else:
        outputs = scenes.predictions(queries, queries * 3 // 10, classes, size, device)
        class_logits, mask_logits = outputs.class_queries_logits[0], outputs.masks_queries_logits[0]
    class_logits, mask_logits = (x.to(getattr(torch, dtype)) for x in (class_logits, mask_logits))
    outputs = SimpleNamespace(class_queries_logits=class_logits[None], masks_queries_logits=mask_logits[None])
    transformers = optional("transformers") if resize == "scores" else None
    processor: Any = transformers.MaskFormerImageProcessor() if transformers else None

    def composition():
        masks = F.interpolate(mask_logits[None], size=target_size, mode="bilinear", align_corners=False)[0].sigmoid()
        return torch.einsum("qc,qhw->chw", class_logits.softmax(-1)[:, :-1], masks).argmax(0)

    def post_processing():
        return processor.post_process_semantic_segmentation(outputs, target_sizes=[target_size])[0]

    options: dict[str, Any] = {} if resize == "logits" else {"input_size": size, "resize": "scores"}
    peers = {"composition": composition}
    if resize == "scores":
        peers = {"transformers": post_processing} if transformers else {}
    no_peer = "none fits into memory" if peers else "transformers is not installed"
    available = torch.cuda.get_device_properties().total_memory if device == "cuda" else 8e9
    if mask_logits.element_size() * (queries + classes) * target_size[0] * target_size[1] > available:
        peers = {}
    made = "outputs of a trained CamVid model" if logits == "trained" else "generated logits, no trained model"
    return Case(
        op="semantic_inference",
        title=f"Q {queries}, K {classes}, {size[0]}x{size[1]} -> {target_size[0]}x{target_size[1]}, "
        f"{logits} logits, resize {resize}{'' if dtype == 'float32' else f', {dtype}'}",
        ours=lambda: semantic_inference(class_logits, mask_logits, target_size, **options),
        peers=peers,
        no_peer=no_peer,
        tolerance=allowed_disagreement(device, dtype),
        inputs={"class_logits": class_logits, "mask_logits": mask_logits},
        error=disagreement,
        notes=(f"{made}; the error is the share of pixels with another label",),
    )


@pytest.mark.parametrize("classes", [19, 150])
@pytest.mark.parametrize("resize", ["logits", "scores"])
def test_semantic_inference(compare, classes, resize):
    """Both orders of operations: the original's instance recipes', and transformers'."""
    compare(classes=classes, resize=resize)


@pytest.mark.parametrize("classes", [19, 150])
def test_semantic_inference_of_confident_predictions(compare, classes):
    """Predictions like a trained model's: most queries cannot matter in most places."""
    compare(classes=classes, logits="confident")


@pytest.mark.skipif("MASKFORMER_EXT_CAMVID_RUN" not in os.environ, reason="MASKFORMER_EXT_CAMVID_RUN is not set")
def test_semantic_inference_of_a_trained_model(compare):
    """A trained model's predictions, which most users have: nearly all (query, tile) pairs can be left out."""
    compare(logits="trained")


def test_semantic_inference_of_a_very_large_image(compare):
    """4000x5000 pixels, where the masks and scores of the composition would take 20 GB."""
    compare(size=(1000, 1250), target_size=(4000, 5000), seconds=60.0)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_semantic_inference_on_a_gpu(compare_on_gpu, parameters):
    """Usual and very large images."""
    compare_on_gpu(**parameters)
