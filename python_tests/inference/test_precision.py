"""`inference.precision`: bfloat16 on request only, near float32, and never on a processor that is slow at it."""

from __future__ import annotations

import warnings

import pytest
import torch

from maskformer_ext import build_model
from maskformer_ext.errors import UserError
from maskformer_ext.inference import network, see, segment
from maskformer_ext.inference.network import run_network
from maskformer_ext.inference.queries import query_masks


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    model = build_model("digits", backbone_weights=None).eval()
    model._drawn = None  # otherwise a warning that it is untrained
    return model


IMAGE = (torch.arange(3 * 96 * 64) % 251).to(torch.uint8).view(3, 96, 64)


def test_bf16_is_near_float32_and_hands_out_float32(model, monkeypatch) -> None:
    monkeypatch.setattr(network, "multiplies_bf16", lambda device_type: True)
    with torch.inference_mode():
        exact, rounded = (run_network(model, IMAGE[None], precision=name)[0] for name in ("fp32", "bf16"))
    for name in ("class_logits", "mask_logits"):
        expected, found = getattr(exact, name), getattr(rounded, name)
        assert found.dtype == torch.float32
        difference = float((found - expected).norm() / expected.norm())
        assert 0 < difference < 0.1, name


@pytest.mark.parametrize("options", [{}, {"tile": 64}, {"tta": True, "tta_min_sizes": [64]}], ids=str)
def test_every_way_through_segment_knows_the_precision(model, monkeypatch, options: dict) -> None:
    asked: list[str] = []
    autocast = network._autocast

    def counted(*arguments):
        asked.append(arguments[1])
        return autocast(*arguments)

    monkeypatch.setattr(network, "_autocast", counted)
    monkeypatch.setattr(network, "multiplies_bf16", lambda device_type: True)
    segment(model, IMAGE, precision="bf16", **options)
    assert set(asked) == {"bf16"}
    segment(model, IMAGE, **options)
    assert asked[-1] == "fp32"


def test_queries_and_seen_images_know_the_precision(model, monkeypatch) -> None:
    from maskformer_ext.config import InferenceConfig

    monkeypatch.setattr(network, "multiplies_bf16", lambda device_type: True)
    settings = InferenceConfig(precision="bf16")
    with torch.inference_mode():
        expected = run_network(model, IMAGE[None], precision="bf16")[0].mask_logits
    assert torch.equal(see(model, IMAGE, settings).outputs[0].mask_logits, expected)
    assert torch.equal(query_masks(model, IMAGE, settings)[1], expected.sigmoid())


def test_a_processor_without_bf16_stays_at_float32_and_says_so(model, monkeypatch) -> None:
    monkeypatch.setattr(network, "multiplies_bf16", lambda device_type: False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = segment(model, IMAGE).class_map
    with pytest.warns(UserWarning, match="no instructions for products of bfloat16"):
        found = segment(model, IMAGE, precision="bf16").class_map
    assert torch.equal(found, expected)


def test_an_unknown_precision_is_refused(model) -> None:
    with pytest.raises(UserError, match="precision must be one of fp32, bf16"):
        segment(model, IMAGE, precision="bf8")
