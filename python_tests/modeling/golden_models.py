"""Models with the golden weights, and the inputs and targets that the golden values were made with."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typed import load_module

from maskformer_ext.checkpoints import load_original, original_name
from maskformer_ext.checkpoints.models import Model, build_model
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets

ROOT = Path(__file__).parent.parent / "golden"
_MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
_STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)

RECIPES = {
    "ade20k_r50": "ade20k-150/maskformer_R50_bs16_160k",
    "ade20k_swin_tiny": "ade20k-150/swin/maskformer_swin_tiny_bs16_160k",
    "coco_panoptic_r50": "coco-panoptic/maskformer_panoptic_R50_bs64_554k",
    "per_pixel_baseline_r50": "ade20k-150/per_pixel_baseline_R50_bs16_160k",
    "per_pixel_baseline_plus_r50": "ade20k-150/per_pixel_baseline_plus_R50_bs16_160k",
}


weights = load_module(ROOT / "golden_weights.py")


@lru_cache
def facts(name: str) -> dict[str, Any]:
    """The json of one golden model."""
    return json.loads((ROOT / "models" / f"{name}.json").read_text())


@lru_cache
def values(name: str) -> dict[str, np.ndarray]:
    """The arrays of one golden model."""
    with np.load(ROOT / "models" / f"{name}.npz") as arrays:
        return dict(arrays)


def golden_state_dict(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """Golden weights for every parameter and buffer of the model, under the original's names."""
    state = {}
    for name, target in model.state_dict().items():
        theirs = original_name(name)
        state[theirs] = torch.from_numpy(weights.golden_tensor(theirs, tuple(target.shape), seed))
    return state


def build(name: str, **overrides: Any) -> Model:
    """The model with its golden weights; without dropout, since the golden training step has none."""
    model = build_model(RECIPES[name], dropout=0.0, drop_path=0.0, **overrides)
    load_original(model, golden_state_dict(model, facts(name)["weight_seed"]))
    return model


def images(name: str, run: dict[str, Any]) -> Tensor:
    """The normalised, padded input of a run."""
    height, width = run["padded"]
    batch = torch.zeros(len(run["images"]), 3, height, width)
    for row, (image, h, w) in zip(batch, run["images"], strict=True):
        pixels = torch.from_numpy(weights.golden_image(image, h, w, facts(name)["input_seed"])).float()
        row[:, :h, :w] = (pixels - _MEAN) / _STD
    return batch


def targets(name: str) -> MaskTargets | SegmentTargets:
    """The targets of the training step, padded as the input."""
    train, num_classes = facts(name)["train"], facts(name)["num_classes"]
    height, width = train["padded"]
    seed = train["target_seed"]
    if "target_counts" not in train:
        label_map = torch.full((len(train["images"]), height, width), 255)
        for row, (image, h, w) in zip(label_map, train["images"], strict=True):
            row[:h, :w] = torch.from_numpy(weights.golden_semantic(image, h, w, num_classes, seed))
        return SegmentTargets.from_label_map(label_map)
    masks, labels = [], []
    for (image, h, w), count in zip(train["images"], train["target_counts"], strict=True):
        mask = torch.zeros(count, height, width, dtype=torch.bool)
        mask[:, :h, :w] = torch.from_numpy(weights.golden_masks(image, count, h, w, seed))
        masks.append(mask)
        labels.append(torch.from_numpy(weights.golden_labels(image, count, num_classes, seed)))
    return MaskTargets.from_masks(masks, labels)


def sample(name: str, key: str, tensor: Tensor) -> np.ndarray:
    """The entries of a tensor that the golden files hold under ``key``."""
    indices = weights.golden_indices(key, tensor.numel(), facts(name)["input_seed"])
    return tensor.detach().contiguous().flatten().numpy()[indices]
