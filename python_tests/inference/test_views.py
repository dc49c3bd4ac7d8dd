"""Test-time augmentation: scores of several sizes and of mirror images are averaged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from paint import PaintModel, paint, scene
from tiny import tiny_config

from maskformer_ext import build_model
from maskformer_ext.config import InferenceConfig
from maskformer_ext.inference import segment
from maskformer_ext.inference.network import run_network
from maskformer_ext.inference.reduction import Reducer
from maskformer_ext.inference.tiles import make_tiles
from maskformer_ext.media.images import resize_shortest_edge


def _views(model, pixels: torch.Tensor, size: tuple[int, int], sides: list[int], resize: str) -> torch.Tensor:
    """Average the scores of sizes and mirror images by torch's own functions."""
    total = torch.zeros(())
    for side in sides:
        view = resize_shortest_edge(pixels, side, 2048)
        for flip in (False, True):
            output = run_network(model, (view.flip(-1) if flip else view)[None])[0]
            scores = Reducer(["semantic"], None, InferenceConfig(resize=resize)).scores(output, size)
            total = total + (scores.flip(-1) if flip else scores) / (2 * len(sides))
    return total


@pytest.mark.parametrize("resize", ["scores", "logits"])
@pytest.mark.parametrize("architecture", ["maskformer", "per_pixel_baseline"])
def test_views_are_averaged(architecture: str, resize: str) -> None:
    model = build_model(tiny_config(num_classes=5), architecture=architecture).eval()
    pixels = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    options: dict[str, Any] = {"tta": True, "tta_min_sizes": [32, 61], "tta_max_size": 2048, "resize": resize}
    with torch.no_grad():
        expected = _views(model, pixels, (45, 80), [32, 61], resize)
    top = expected.topk(2, dim=0).values
    clear = top[0] - top[1] > 1e-5
    assert clear.float().mean() > 0.9
    for batch_size in (1, 2):
        found = segment(model, pixels, size=(45, 80), batch_size=batch_size, **options).class_map
        assert torch.equal(found[clear], expected.argmax(0)[clear])


@pytest.mark.parametrize("tile", [0, 32])
def test_views_of_a_painted_image_give_it_back(tile: int) -> None:
    segments, labels = scene((48, 60), things=5)
    model = PaintModel(3)
    options: dict[str, Any] = {"tta": True, "tta_min_sizes": [], "tile": tile}
    found = segment(model, paint(segments, labels), **options)
    np.testing.assert_array_equal(found.class_map, np.array([0, *labels])[segments])
    assert len(model.shapes) == (2 if not tile else 2 * len(make_tiles(48, 60, tile)))


def test_views_of_segments_are_refused() -> None:
    with pytest.raises(ValueError, match='task must be "semantic", got panoptic'):
        segment(PaintModel(3), np.zeros((8, 8, 3), dtype=np.uint8), task="panoptic", tta=True)
