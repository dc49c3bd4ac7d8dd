"""What the network said of an image is kept, and gives the results that `segment` gives, without another run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_config
from torch import Tensor

from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.config import InferenceConfig
from maskformer_ext.inference import Instances, SemanticResult, segment
from maskformer_ext.inference.seen_image import see


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    model = build_model(tiny_config(3)).eval()
    model.load_state_dict(model.state_dict())
    return model


def _pixels(height: int = 70, width: int = 100) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(256, size=(3, height, width), dtype=np.uint8))


def _maps(result: Any) -> Tensor:
    if isinstance(result, Instances):
        return result.packed_masks
    return result.class_map if isinstance(result, SemanticResult) else result.segment_map


@pytest.mark.filterwarnings("ignore:segment. the model's weights are untrained")
@pytest.mark.parametrize("tile", [0, 64])
@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("semantic", {"resize": "logits"}),
        ("semantic", {"size": (33, 44)}),
        ("instance", {"top_k": 7, "mask_threshold": 0.4}),
        ("panoptic", {"object_mask_threshold": 0.1, "overlap_threshold": 0.1}),
    ],
)
def test_results_are_those_of_segment(model: torch.nn.Module, task: str, options: dict[str, Any], tile: int) -> None:
    config = InferenceConfig(tile=tile)
    seen = see(model, _pixels(), config)
    assert len(seen.tiles) == (1 if tile == 0 else len(seen.outputs)) and seen.size == (70, 100) and seen.bytes > 0
    found = seen.segment(task, **options)
    expected = segment(model, _pixels(), task=task, config=config, **options)
    assert torch.equal(_maps(found), _maps(expected))


def test_the_network_runs_once(model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = see(model, _pixels())
    monkeypatch.setattr(model, "forward", lambda *_: pytest.fail("the network ran again"))
    few, many = (len(seen.segment("instance", top_k=count)) for count in (1, 8))
    assert few <= 1 < many


def test_what_decides_how_the_network_runs_is_fixed(model: torch.nn.Module) -> None:
    seen = see(model, _pixels())
    with pytest.raises(TypeError, match="tile decides how the network is run, and it was run already"):
        seen.segment("semantic", tile=32)
    with pytest.raises(ValueError, match="task must be one of semantic, instance, panoptic, got 'depth'"):
        seen.segment("depth")
