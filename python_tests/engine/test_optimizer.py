"""Parameter groups and clipping; equality with the original's groups is in modeling/test_recipes.py."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_config
from torch import nn
from typed import present

from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.config import OptimizerConfig
from maskformer_ext.engine.optimizer import build_optimizer, clip_grad_norm, parameter_groups


def test_every_trainable_parameter_is_in_one_group_with_its_settings() -> None:
    model = build_model(tiny_config(3))
    config = OptimizerConfig(
        lr=1e-3, backbone_multiplier=0.5, weight_decay=0.1, weight_decay_norm=0.2, weight_decay_embed=0.3
    )
    settings = {
        name: (group["lr"], group["weight_decay"])
        for group in parameter_groups(model, config)
        for name, _ in group["params"]
    }
    assert set(settings) == {name for name, _ in model.named_parameters()}
    assert settings["backbone.net.conv1.weight"] == (5e-4, 0.1)
    assert settings["backbone.net.bn1.bias"] == (5e-4, 0.2)
    assert settings["pixel_decoder.adapters.0.weight"] == (1e-3, 0.1)
    assert settings["pixel_decoder.adapters.0.norm.weight"] == (1e-3, 0.2)
    assert settings["transformer_decoder.layers.0.norm1.weight"] == (1e-3, 0.2)
    assert settings["transformer_decoder.query_embed.weight"] == (1e-3, 0.3)
    assert settings["class_head.bias"] == (1e-3, 0.1)


def test_frozen_parameters_are_left_out() -> None:
    model = build_model(tiny_config(3))
    model.backbone.requires_grad_(False)
    names = [name for group in parameter_groups(model, OptimizerConfig()) for name, _ in group["params"]]
    assert names and not any(name.startswith("backbone.") for name in names)


def test_optimizer_state_survives_a_round_trip() -> None:
    model = build_model(tiny_config(3))
    optimizer = build_optimizer(model, OptimizerConfig())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    again = build_optimizer(model, OptimizerConfig())
    again.load_state_dict(optimizer.state_dict())
    moments = [state["exp_avg"] for state in again.state.values()]
    assert len(moments) == len(list(model.parameters()))
    assert all((moment != 0).any() for moment in moments)


@pytest.mark.parametrize("max_norm", [0.0, 0.01, 1e6])
def test_clipping_scales_all_gradients_together(max_norm: float) -> None:
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.full((3,), 2.0), torch.full((2, 2), -1.0)
    assert clip_grad_norm(parameters, max_norm).item() == pytest.approx(4.0)
    joint = torch.stack([present(p.grad).square().sum() for p in parameters[:2]]).sum().sqrt().item()
    assert joint == pytest.approx(min(4.0, max_norm or 4.0), rel=1e-3)
