"""The learning-rate schedule against the original's values."""

from __future__ import annotations

import json

import pytest
import torch

from maskformer_ext.config import ScheduleConfig
from maskformer_ext.engine.schedule import learning_rate_factor, set_learning_rate


def test_factors_equal_the_original_s_in_all_recipes(golden_dir):
    recipes = json.loads((golden_dir / "recipes.json").read_text())
    for recipe in recipes.values():
        optim, original = recipe["optim"], recipe["optim"]["schedule"]
        config = ScheduleConfig(
            name={"WarmupPolyLR": "poly", "WarmupMultiStepLR": "step"}[original["name"]],
            power=original["poly_power"],
            steps=original["steps"],
            gamma=original["gamma"],
            warmup_iters=original["warmup_iters"],
            warmup_factor=original["warmup_factor"],
        )
        for iteration, expected in optim["lr_factor_at_iter"].items():
            factor = learning_rate_factor(int(iteration), optim["max_iter"], config)
            assert factor == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_cosine_falls_from_one_to_zero():
    config = ScheduleConfig(name="cosine")
    factors = [learning_rate_factor(i, 100, config) for i in (0, 50, 100)]
    assert factors == pytest.approx([1.0, 0.5, 0.0], abs=1e-12)


def test_groups_keep_their_ratio_when_the_rate_changes():
    layers = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(
        [{"params": layers[0].parameters(), "lr": 1e-3}, {"params": layers[1].parameters(), "lr": 1e-4}]
    )
    for factor in (0.5, 0.1):
        set_learning_rate(optimizer, factor)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-3 * factor, 1e-4 * factor])
