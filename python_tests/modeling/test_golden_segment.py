"""`segment` on whole golden models: from a uint8 image to the class map and the panoptic map of the original."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from golden_models import RECIPES, ROOT, build, facts, golden_state_dict, values, weights

from maskformer_ext import build_model
from maskformer_ext.checkpoints import load_original
from maskformer_ext.checkpoints.models import Model
from maskformer_ext.config import InferenceConfig
from maskformer_ext.inference import segment
from maskformer_ext.media.images import resize_shortest_edge

_DIFFERING = 1e-3  # share of pixels, for near ties


@pytest.fixture(scope="module", params=list(RECIPES))
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name: str) -> Model:
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


@pytest.mark.parametrize("name", ["ade20k_r50", "per_pixel_baseline_r50"])
def test_test_time_augmentation_equals_the_originals(name: str) -> None:
    case = json.loads((ROOT / "tta.json").read_text())[name]
    expected = np.load(ROOT / "tta.npz")
    model = build_model(RECIPES[name]).eval()
    load_original(model, golden_state_dict(model, case["weight_seed"]))
    model.config.size_divisibility = facts(name)["size_divisibility"]
    pixels = torch.from_numpy(weights.golden_image(*case["image"], case["image_seed"]))
    for index in range(0, len(case["augmented"]), 2):  # before the flip
        view = resize_shortest_edge(pixels, case["min_sizes"][index // 2], case["max_size"])
        np.testing.assert_array_equal(view, expected[f"{name}/augmented{index}"])
    settings = InferenceConfig(
        tta=True, tta_min_sizes=case["min_sizes"], tta_max_size=case["max_size"], tta_flip=case["flip"]
    )
    found = segment(model, pixels, size=tuple(case["height_width"]), config=settings, batch_size=2)
    assert (found.class_map.numpy() != expected[f"{name}/sem_seg_argmax"]).mean() <= _DIFFERING
