"""Training that starts from weights of another run, or from elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from checkpoint_files import SMALL, write_original
from folder_sets import squares, write_folder
from runs import small_config
from typed import expect

from maskformer_ext import MaskFormer, build_model, convert, train
from maskformer_ext.checkpoints import original_name
from maskformer_ext.checkpoints.starting_network import adopt_network
from maskformer_ext.config import Config
from maskformer_ext.config.load import load_config
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


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """A folder for transformers: another backbone and other sizes than any recipe's, three classes."""
    torch.manual_seed(0)
    return build_model(SMALL).save_pretrained(tmp_path_factory.mktemp("hub") / "model", layout="hf")


def _fine_tuning(tmp_path: Path, weights: Path, *overrides: str) -> list[str]:
    root = tmp_path / "images"
    if not root.exists():
        write_folder(root, "background\nobject\n", lambda g, s, n: squares(1, shape=(96, 64)))
    own = [f"data.root={root}", f"init_from={weights}", "reset_head=true", f"output_dir={tmp_path / 'run'}"]
    small = ["train.max_iters=1", "train.batch_size=2", "data.num_workers=0"]
    return ["config=folder", *own, *small, *overrides]


def test_a_recipe_trains_the_network_that_comes_with_the_weights(others: Path, tmp_path: Path, capsys) -> None:
    assert train.main(_fine_tuning(tmp_path, others)) == 0
    told = capsys.readouterr().out
    assert f"the network comes with init_from={others}, in place of the recipe's: maskformer with resnet50, " in told
    config = load_config(tmp_path / "run" / "config.yaml")
    assert config.model == replace(SMALL, num_classes=2, dropout=0.1) and config.optimizer.lr == 1e-4
    trained = MaskFormer.from_pretrained(tmp_path / "run")
    assert trained.num_classes == 2 and trained.dataset_info is not None
    assert trained.dataset_info.classes == ("background", "object")
    assert train.main(_fine_tuning(tmp_path, others, "resume=auto", "train.max_iters=2")) == 0
    assert "in place of the recipe's" not in capsys.readouterr().out  # it is the run's own by now


def test_given_keys_win_over_the_network_of_the_weights(others: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "mine.yaml").write_text("base: semantic_folder\nmodel: {dropout: 0.25}\noptimizer: {lr: 3.0e-4}\n")
    arguments = _fine_tuning(tmp_path, others, "model.drop_path=0.5")
    config = load_config(tmp_path / "mine.yaml", arguments[1:])
    assert config.init_keep == ["model.dropout", "optimizer.lr", "model.drop_path"]
    adopted, said = adopt_network(config)
    assert (adopted.model.dropout, adopted.model.drop_path, adopted.optimizer.lr) == (0.25, 0.5, 3e-4)
    assert adopted.model.backbone == "resnet50" and "optimizer.lr=0.0003" in said
    assert train.main([*arguments, "model.hidden_dim=64"]) == 2
    assert capsys.readouterr().err == (
        f"error: {others}/model.safetensors belongs to a model with model.hidden_dim=32, but the configuration says "
        "64: leave the key out, since init_from brings its own network\n"
    )


def test_a_recipe_of_the_same_network_stays_as_it_is(tmp_path: Path) -> None:
    model = replace(SMALL, masked_attention=True, pixel_mean=[1.0, 2.0, 3.0])
    file = write_original(build_model(model), tmp_path / "weights.pth")  # which says nothing of either
    config = Config(model=model, init_from=str(file))
    assert adopt_network(config) == (config, "")
    folder = build_model(model).save_pretrained(tmp_path / "native")  # and this says both
    assert adopt_network(replace(config, init_from=str(folder), model=replace(model, dropout=0.9)))[1] == ""
    changed = replace(config, init_from=str(folder), model=replace(model, masked_attention=False))
    assert adopt_network(changed)[0].model.masked_attention


def test_only_keys_of_the_network_can_be_kept() -> None:
    with pytest.raises(UserError, match=r"init_keep must list keys below model or optimizer\.lr, got 'train\.max_it"):
        load_config("digits", ["init_keep=[train.max_iters]"])


def test_weights_of_the_original_must_be_of_the_network_that_is_given(tmp_path) -> None:
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
