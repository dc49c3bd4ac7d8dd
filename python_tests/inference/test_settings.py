"""What `segment` takes from the model where the caller gives nothing, as `predict` does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from painted_results import PAINTED, THINGS
from tiny import tiny_config

from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.config import Config, InferenceConfig
from maskformer_ext.errors import UserError
from maskformer_ext.inference import see, segment
from maskformer_ext.inference.run import segment_tasks

_LOW: dict[str, Any] = {"object_mask_threshold": 0.0, "overlap_threshold": 0.0}


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    model: Any = build_model(tiny_config(num_classes=3)).eval()
    model.recipe = Config(inference=InferenceConfig(min_size=64, top_k=5, **_LOW))
    return model


def _pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)


@pytest.mark.parametrize("options", [{}, {"resize": "logits"}])
def test_options_are_those_of_the_recipe(model: Any, options: dict[str, Any]) -> None:
    recipe = model.recipe.inference
    found = segment(model, _pixels(), task="instance", **options)
    expected = segment(model, _pixels(), task="instance", config=recipe, **options)
    plain = segment(model, _pixels(), task="instance", config=InferenceConfig(), **options)
    assert torch.equal(found.scores, expected.scores) and torch.equal(found.packed_masks, expected.packed_masks)
    assert len(found) == 5 and not torch.equal(plain.scores[:5], found.scores)
    seen = see(model, _pixels())
    instances: Any = seen.segment("instance")
    assert seen.config == recipe and torch.equal(instances.scores, found.scores)


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_things_are_those_that_the_model_knows(model: Any, task: str) -> None:
    everything = segment(model, _pixels(), task=task)
    assert {part.is_thing for part in everything} == {True}  # it names no classes
    model.dataset_info = PAINTED
    given = segment(model, _pixels(), task=task, thing_classes=THINGS)
    ways = [
        segment(model, _pixels(), task=task),
        segment_tasks(model, [_pixels()], [task])[0][task].with_context(info=PAINTED),
        see(model, _pixels()).segment(task).with_context(info=PAINTED),
    ]
    for found in ways:
        assert found.describe() == given.describe()
    other = replace(PAINTED, thing_classes=(0,))
    assert segment(model, _pixels(), task=task, info=other).info.thing_classes == (0,)
    assert segment(model, _pixels(), task=task, thing_classes=range(3)).info.thing_classes == (0, 1, 2)


def test_an_address_is_told_apart_from_a_missing_file(model: Any) -> None:
    with pytest.raises(UserError, match=r"https://example.org/a.jpg is an address, not a file: download it"):
        segment(model, "https://example.org/a.jpg")


def test_a_mistaken_option_is_told_with_what_was_meant(model: Any) -> None:
    with pytest.raises(TypeError, match="there is no option 'tiel': did you mean tile"):
        segment(model, _pixels(), tiel=32)
    with pytest.raises(TypeError, match="there is no option 'taks': did you mean task"):
        segment(model, _pixels(), taks="semantic")
    with pytest.raises(TypeError, match=r"must be an InferenceConfig, such as .*, got Config"):
        segment(model, _pixels(), config=model.recipe)
