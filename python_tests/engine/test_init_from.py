"""Training that starts from weights of another run, or from elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from runs import small_config
from typed import expect

from maskformer_ext import MaskFormer, build_model, convert
from maskformer_ext.checkpoints import original_name
from maskformer_ext.engine.setup import build_setup
from maskformer_ext.errors import UserError


def _weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_run_starts_from_weights_and_a_new_head_where_asked(tmp_path) -> None:
    config = small_config(tmp_path / "run")
    first = build_setup(config, Accelerator(cpu=True))
    model, expected = expect(MaskFormer, first.model), _weights(first.model)
    folder = model.save_pretrained(tmp_path / "weights", config=config, info=first.info)

    again = build_setup(replace(config, seed=1, init_from=str(folder)), Accelerator(cpu=True))
    assert all(torch.equal(value, expected[name]) for name, value in _weights(again.model).items())
    reset = build_setup(replace(config, seed=1, init_from=str(folder), reset_head=True), Accelerator(cpu=True))
    changed = {name for name, value in _weights(reset.model).items() if not torch.equal(value, expected[name])}
    assert changed == {"class_head.weight", "class_head.bias"}

    few = build_model(model.config, num_classes=2).save_pretrained(tmp_path / "few")
    with pytest.raises(UserError, match=r"knows 2 classes, but the model has .* reset_head=true"):
        build_setup(replace(config, init_from=str(few)), Accelerator(cpu=True))
    build_setup(replace(config, init_from=str(few), reset_head=True), Accelerator(cpu=True))


def test_weights_of_the_original_must_be_of_the_same_network(tmp_path) -> None:
    config = small_config(tmp_path / "run")
    model = build_model(config.model, num_classes=2, backbone="resnet50")
    torch.save({original_name(name): value for name, value in model.state_dict().items()}, tmp_path / "r50.pth")
    with pytest.raises(
        UserError, match=r"r50\.pth belongs to .* model\.backbone=resnet50, but the configuration says test"
    ):
        build_setup(replace(config, init_from=str(tmp_path / "r50.pth"), reset_head=True), Accelerator(cpu=True))


def test_training_does_not_start_from_weights_that_are_not_finite(tmp_path, capsys) -> None:
    config = small_config(tmp_path / "run")
    setup = build_setup(config, Accelerator(cpu=True))
    model = expect(MaskFormer, setup.model)
    with torch.no_grad():
        model.get_parameter("mask_head.layers.0.bias")[0] = float("nan")
    folder = model.save_pretrained(tmp_path / "weights", config=config, info=setup.info)
    what = "not finite: 1 of 32 values of mask_head.layers.0.bias are infinite or NaN"
    with pytest.raises(UserError, match=f"^init_from=.*: training cannot start from weights that are {what}"):
        build_setup(replace(config, init_from=str(folder)), Accelerator(cpu=True))
    assert convert.main([str(folder), str(tmp_path / "converted")]) == 0
    assert f"warning: {folder}: the weights are {what}" in capsys.readouterr().err
