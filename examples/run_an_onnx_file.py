"""Run an exported model in onnxruntime alone: `segment_photo` needs onnxruntime, NumPy and Pillow, nothing of ours.

Without an argument a model with random weights is exported first. ``python examples/run_an_onnx_file.py`` does that;
``python examples/run_an_onnx_file.py model.onnx photo.jpg`` takes your own. It needs
``pip install 'maskformer-ext[onnx]'``.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def segment_photo(model: str, photo: str) -> None:
    """Print the share of each class, segment or instance in a photo."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    names, resize, outputs = (json.loads(metadata[f"maskformer_ext.{key}"]) for key in ("names", "resize", "outputs"))
    image = Image.open(photo).convert("RGB")
    scale = resize["min_size"] / min(image.size) if resize["min_size"] else 1.0
    scale = min(scale, resize["max_size"] / max(image.size)) if resize["max_size"] else scale
    if scale != 1:
        image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    images = {"images": np.asarray(image).transpose(2, 0, 1)[None]}  # (1, 3, H, W) uint8
    if "classes" in outputs:  # semantic: a class per pixel
        labels, areas = np.unique(session.run(["classes"], images)[0], return_counts=True)
    elif "segment_map" in outputs:  # panoptic: a row per segment
        labels, areas = (rows[0] for rows in session.run(["labels", "areas"], images))
    else:  # instances
        masks, (labels,) = session.run(["masks", "labels"], images)
        areas = masks[0].sum((-2, -1))
    for label, area in zip(labels, areas, strict=True):
        if label >= 0:  # -1: a row that stands for nothing
            print(f"{names[label]}: {area / (image.width * image.height):.1%}")


def export_untrained(folder: Path) -> list[str]:
    """Return the paths of an exported model and of a photo."""
    from maskformer_ext import build_model

    build_model("digits", num_classes=4).save_pretrained(folder / "run")
    command = [sys.executable, "-m", "maskformer_ext.export", f"checkpoint={folder / 'run'}", "check=false"]
    subprocess.run([*command, f"output={folder / 'model.onnx'}"], check=True)
    Image.effect_noise((160, 120), 80).save(folder / "photo.png")
    return [str(folder / "model.onnx"), str(folder / "photo.png")]


with tempfile.TemporaryDirectory() as temporary:
    segment_photo(*(sys.argv[1:3] or export_untrained(Path(temporary))))
