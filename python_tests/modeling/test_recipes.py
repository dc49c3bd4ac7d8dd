"""All thirty recipes of the original: every value, names and shapes of the weights, the optimizer's groups."""

from __future__ import annotations

import json
import re
from functools import reduce
from typing import Any

import pytest
import torch
from recipes import PRETRAINED, RECIPES, ROOT, expected_values

from maskformer_ext.checkpoints import original_name
from maskformer_ext.checkpoints.backbone_weights import _TIMM_NAMES
from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.config.load import CONFIG_DIR, available_configs, load_config
from maskformer_ext.engine.optimizer import parameter_groups
from maskformer_ext.engine.schedule import learning_rate_factor


def _stored(folder: str, recipe: str) -> dict:
    content = json.loads((ROOT / folder / f"{recipe.removesuffix('.yaml').replace('/', '__')}.json").read_text())
    return _stored(folder, content["same_as"]) if "same_as" in content else content


def _value(config: Any, key: str) -> Any:
    return reduce(getattr, key.split("."), config)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_value_equals_the_original(recipe: str) -> None:
    config, expected = load_config(recipe), expected_values(recipe)
    assert {key: _value(config, key) for key in expected} == expected
    assert (config.name, config.output_dir) == (recipe, f"output/{recipe}")
    theirs = RECIPES[recipe]["model"]["pretrained"]
    if config.model.backbone_weights == "timm":
        assert _TIMM_NAMES[config.model.backbone] == PRETRAINED[theirs]
    else:
        assert config.model.backbone_weights == "R-103.pkl" == theirs.rsplit("/")[-1]
    for iteration, factor in RECIPES[recipe]["optim"]["lr_factor_at_iter"].items():
        got = learning_rate_factor(int(iteration), config.train.max_iters, config.schedule)
        assert got == pytest.approx(factor, rel=1e-9, abs=1e-15), iteration


@pytest.mark.parametrize("recipe", RECIPES)
def test_weights_and_optimizer_groups_equal_the_original(recipe: str) -> None:
    with torch.device("meta"):
        model = build_model(recipe)

    stored = _stored("state_dict_keys", recipe)
    derived = re.compile(r"criterion\.|.*relative_position_index$")
    shapes = {original_name(name): list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == {name: shape for name, shape in stored["shapes"].items() if not derived.match(name)}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == stored["meta"]["n_params_trainable"]

    groups = {
        (group["lr"], group["weight_decay"]): {original_name(name) for name, _ in group["params"]}
        for group in parameter_groups(model, load_config(recipe).optimizer)
    }
    expected = _stored("param_groups", recipe)["groups"]
    assert {(g["lr"], g["weight_decay"]): set(g["params"]) for g in expected} == groups


def test_recipes_are_short_and_every_original_one_is_there() -> None:
    names = available_configs()
    assert set(RECIPES) <= set(names)
    for recipe in RECIPES:
        lines = (CONFIG_DIR / f"{recipe}.yaml").read_text().splitlines()
        assert len(lines) <= 5 and lines[1].startswith("# paper: ")
    assert not any(name.startswith("_") for name in names)
