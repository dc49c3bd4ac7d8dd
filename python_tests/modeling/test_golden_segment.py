"""`segment` on whole golden models: from a uint8 image to the class map and the panoptic map of the original."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from golden_models import RECIPES, ROOT, build, facts, values, weights

from maskformer_ext.config import InferenceConfig
from maskformer_ext.inference import segment

_DIFFERING = 1e-3  # share of pixels, for near ties


@pytest.fixture(scope="module", params=list(RECIPES))
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name: str) -> torch.nn.Module:
    built = build(name)
    built.config.size_divisibility = facts(name)["size_divisibility"]
    return built.eval()


def _image(name: str) -> np.ndarray:
    image, height, width = facts(name)["runs"]["single"]["images"][0]
    return weights.golden_image(image, height, width, facts(name)["input_seed"]).transpose(1, 2, 0)


def test_class_map_equals_the_originals(name: str, model: torch.nn.Module) -> None:
    size = tuple(facts(name)["runs"]["single"]["output_sizes"][0])
    resize = "logits" if facts(name)["postprocess_before_inference"] else "scores"
    found = segment(model, _image(name), task="semantic", size=size, config=InferenceConfig(resize=resize))
    expected = values(name)["single/final0/sem_seg_argmax"]
    assert (found.class_map.numpy() != expected).mean() <= _DIFFERING


@pytest.mark.parametrize("name", ["coco_panoptic_r50"], indirect=True)
def test_panoptic_map_equals_the_originals(name: str, model: torch.nn.Module) -> None:
    run = facts(name)["runs"]["single"]
    low = run["panoptic_low_thresholds"]
    things = json.loads((ROOT / "inference.json").read_text())["thing_contiguous_ids"]
    found = segment(
        model,
        _image(name),
        task="panoptic",
        size=tuple(run["output_sizes"][0]),
        thing_classes=things["coco_2017_train_panoptic"],
        object_mask_threshold=low["object_mask_threshold"],
        overlap_threshold=low["overlap_threshold"],
    )
    expected = values(name)["single/final0/panoptic_low_thresholds"]
    assert (found.segment_map.numpy() != expected).mean() <= _DIFFERING
    assert [{key: info[key] for key in ("id", "isthing", "category_id")} for info in found.segments_info] == [
        {key: info[key] for key in ("id", "isthing", "category_id")} for info in low["segments_info"][0]
    ]
