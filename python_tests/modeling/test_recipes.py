"""All thirty configurations of the original: names and shapes of weights, and the optimizer's groups."""

from __future__ import annotations

import json
import re

import pytest
import torch
from recipes import RECIPES, ROOT, model_config, optimizer_config

from maskformer_ext.checkpoints import original_name
from maskformer_ext.engine.optimizer import parameter_groups
from maskformer_ext.modeling.build import build_model


def _stored(folder: str, recipe: str) -> dict:
    name = recipe.removesuffix(".yaml").replace("/", "__")
    content = json.loads((ROOT / folder / f"{name}.json").read_text())
    return _stored(folder, content["same_as"]) if "same_as" in content else content


@pytest.mark.parametrize("recipe", RECIPES)
def test_weights_and_optimizer_groups_equal_the_original(recipe: str) -> None:
    with torch.device("meta"):
        model = build_model(model_config(recipe))

    expected = _stored("state_dict_keys", recipe)["shapes"]
    derived = re.compile(r"criterion\.|.*relative_position_index$")
    shapes = {original_name(name): list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == {name: shape for name, shape in expected.items() if not derived.match(name)}

    groups = {
        (group["lr"], group["weight_decay"]): {original_name(name) for name, _ in group["params"]}
        for group in parameter_groups(model, optimizer_config(recipe))
    }
    stored = _stored("param_groups", recipe)["groups"]
    assert {(g["lr"], g["weight_decay"]): set(g["params"]) for g in stored} == groups
