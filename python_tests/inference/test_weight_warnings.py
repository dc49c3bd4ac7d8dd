"""Weights that make results meaningless are said; weights of any precision are fed in theirs."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from paint import PaintModel
from tiny import tiny_config

from maskformer_ext import build_model
from maskformer_ext.config import InferenceConfig
from maskformer_ext.inference import segment
from maskformer_ext.inference.network import run_network
from maskformer_ext.inference.programs import SemanticNetwork
from maskformer_ext.inference.queries import query_masks
from maskformer_ext.inference.reduction import Reducer
from maskformer_ext.modeling.layers import group_norm

ARCHITECTURES = ("maskformer", "per_pixel_baseline", "per_pixel_baseline_plus")
PIXELS = torch.arange(3 * 40 * 50, dtype=torch.int64).remainder(251).to(torch.uint8).view(3, 40, 50)


def _warnings(model: torch.nn.Module, times: int = 1) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(times):
            segment(model, PIXELS)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_untrained_weights_are_said_once(architecture: str) -> None:
    model = build_model(tiny_config(3), architecture=architecture)
    keys = set(model.state_dict())
    assert model.is_untrained
    (message,) = _warnings(model, times=2)
    assert "untrained (random)" in message and "from_pretrained" in message
    assert set(model.state_dict()) == keys
    assert _warnings(
        build_model(tiny_config(3), architecture=architecture).bfloat16()
    )  # a change of type trains nothing
    copied = copy.deepcopy(build_model(tiny_config(3), architecture=architecture))
    assert copied.is_untrained and _warnings(copied)


def test_trained_or_loaded_weights_are_not_called_untrained() -> None:
    model = build_model(tiny_config(3))
    state = copy.deepcopy(model.state_dict())
    loaded = build_model(tiny_config(3))
    loaded.load_state_dict(state)
    assert not loaded.is_untrained and not _warnings(loaded)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model(torch.zeros(1, 3, 64, 64)).class_logits.sum().backward()
    optimizer.step()
    assert not model.is_untrained and not _warnings(model)
    assert not copy.deepcopy(model).is_untrained
    assert not _warnings(PaintModel(256))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_said_once(value: float) -> None:
    model = build_model(tiny_config(3))
    with torch.no_grad():
        model.mask_head.layers[0].bias[1:3] = value
    (message,) = _warnings(model, times=2)
    assert "2 of 32 values of mask_head.layers.0.bias are infinite or NaN" in message
    with torch.no_grad():
        model.mask_head.layers[0].bias[1:3] = 0.0
    assert not _warnings(model)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_other_types_get_inputs_of_theirs(architecture: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = build_model(tiny_config(3, pixel_decoder="transformer_encoder", encoder_layers=1))
    if architecture != "maskformer":
        model = build_model(tiny_config(3), architecture=architecture)
    model.load_state_dict(model.state_dict())
    tasks = ("semantic", "panoptic", "instance") if architecture == "maskformer" else ("semantic",)
    reduce = Reducer(["semantic"], None, InferenceConfig())
    with torch.inference_mode():
        expected = reduce.scores(run_network(model.eval(), PIXELS[None])[0], (40, 50))
    model = model.to(dtype)
    with torch.inference_mode():
        scores = reduce.scores(run_network(model, PIXELS[None])[0], (40, 50))
        exported = SemanticNetwork(model, scores=True)(PIXELS[None])
    assert scores.dtype == torch.float32
    scale = float(expected.abs().max())
    assert float((scores - expected).abs().max()) < (1e-4 if dtype == torch.float64 else 0.2) * scale
    assert float((exported[0] - expected).abs().max()) < (1e-4 if dtype == torch.float64 else 0.2) * scale
    settings: tuple[dict[str, Any], ...] = ({}, {"tile": 32})
    for task in tasks:
        for options in settings:
            segment(model, PIXELS, task=task, **options)
    segment(model, PIXELS, tta=True, tta_min_sizes=[])
    if architecture == "maskformer":
        classes, masks = query_masks(model.train(), PIXELS, InferenceConfig())
        assert classes.dtype == masks.dtype == torch.float32 and model.training


def test_a_group_norm_takes_a_single_value_per_group() -> None:
    norm = group_norm(32)
    with torch.no_grad():
        norm.bias[:] = torch.arange(32)
    torch.testing.assert_close(norm(torch.randn(1, 32, 1, 1)).flatten(), torch.arange(32.0), atol=1e-4, rtol=1e-4)
    x = torch.randn(2, 32, 3, 4)
    plain = torch.nn.GroupNorm(32, 32)
    plain.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm(x), plain(x))
