"""Predictions for the tests of the inference ops: golden ones, confident random ones, broken ones."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typed import load_module


def golden_functions(golden_dir: Path) -> ModuleType:
    """Import golden_weights.py."""
    return load_module(golden_dir / "golden_weights.py")


@dataclass(frozen=True)
class GoldenPrediction:
    """One image of one golden case, with the arguments that the original's recipe implies."""

    name: str
    case: dict[str, Any]
    class_logits: Tensor
    mask_logits: Tensor
    size: tuple[int, int]
    sizes: dict[str, Any]  # input_size, crop and resize
    thing_classes: list[int]
    segments_info: list[dict[str, Any]]
    sem_seg: dict[str, Any]
    seed: int
    arrays: dict[str, np.ndarray]


def golden_predictions(golden_dir: Path) -> list[GoldenPrediction]:
    """Read the direct and forward cases of inference.npz."""
    arrays = dict(np.load(golden_dir / "inference.npz"))
    cases = json.loads((golden_dir / "inference.json").read_text())
    things = cases["thing_contiguous_ids"]
    tables = {"coco": things["coco_2017_train_panoptic"], "ade": things["ade20k_panoptic_train"], "ade_sem": []}
    result = []
    for name, case in cases.items():
        if name.startswith("direct/"):
            result.append(
                GoldenPrediction(
                    name=name,
                    case=case,
                    class_logits=torch.from_numpy(arrays[f"{name}/mask_cls"]).float(),
                    mask_logits=torch.from_numpy(arrays[f"{name}/mask_pred"]).float(),
                    size=tuple(case["hw"]),
                    sizes={},
                    thing_classes=tables[case["metadata"]],
                    segments_info=case["segments_info"],
                    sem_seg=case["sem_seg"],
                    seed=case["sample_seed"],
                    arrays=arrays,
                )
            )
        elif name.startswith("forward/"):
            source = f"forward/{case['inputs_of']}"
            for i, (_, height, width) in enumerate(case["images"]):
                result.append(
                    GoldenPrediction(
                        name=f"{name}/{i}",
                        case=case,
                        class_logits=torch.from_numpy(arrays[f"{source}/pred_logits"][i]).float(),
                        mask_logits=torch.from_numpy(arrays[f"{source}/pred_masks"][i]).float(),
                        size=tuple(case["output_sizes"][i]),
                        sizes={
                            "input_size": case["padded"],
                            "crop": (height, width),
                            "resize": "logits" if case["postprocess_before_inference"] else "scores",
                        },
                        thing_classes=tables[case["metadata"]],
                        segments_info=case["segments_info"][i] if case["panoptic_on"] else [],
                        sem_seg=case["sem_seg"][i],
                        seed=case["image_seed"],
                        arrays=arrays,
                    )
                )
    return result


def confident_predictions(
    queries: int, classes: int, size: tuple[int, int], *, seed: int = 0, sharpness: float = 9.0
) -> tuple[Tensor, Tensor]:
    """Class and mask logits (Q, K + 1), (Q, h, w) with smooth blobs as masks, some of them overlapping."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    class_logits = torch.randn(queries, classes + 1, generator=generator)
    class_logits[torch.arange(queries), torch.randint(0, classes + 1, (queries,), generator=generator)] += sharpness
    y = torch.linspace(0, 1, height).view(1, -1, 1)
    x = torch.linspace(0, 1, width).view(1, 1, -1)
    centre = torch.rand(2, queries, 1, 1, generator=generator)
    radius = 0.1 + 0.3 * torch.rand(queries, 1, 1, generator=generator)
    distance = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2).sqrt()
    noise = 0.5 * torch.randn(queries, height, width, generator=generator)
    return class_logits, 20 * (radius - distance) + noise


def with_broken_queries(class_logits: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Append queries that must count as absent, each confident of class 0 everywhere."""
    broken_classes = torch.full((4, class_logits.shape[1]), -9.0)
    broken_classes[:, 0] = 9.0
    broken_masks = torch.full((4, *mask_logits.shape[1:]), 30.0)
    broken_classes[0, -1] = torch.nan
    broken_classes[1, 0] = torch.inf
    broken_masks[2, 0, 0] = torch.nan
    broken_masks[3, -1, -1] = torch.inf
    return torch.cat([class_logits, broken_classes]), torch.cat([mask_logits, broken_masks])


def transformers_outputs(class_logits: Tensor, mask_logits: Tensor) -> SimpleNamespace:
    """Wrap one image's predictions as Hugging Face transformers' post-processing expects them."""
    return SimpleNamespace(class_queries_logits=class_logits[None], masks_queries_logits=mask_logits[None].clone())
