"""The look at the data before training: what it refuses, what it chooses, and that what is given wins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from folder_sets import squares, write_folder

import maskformer_ext
from maskformer_ext import train as command
from maskformer_ext.checkpoints.models import load_model
from maskformer_ext.checkpoints.runs import find_checkpoint
from maskformer_ext.config import Config
from maskformer_ext.config.load import available_configs, load_config
from maskformer_ext.data.build import build_dataset
from maskformer_ext.data.survey import look
from maskformer_ext.engine.fitting import fit, fit_to_data
from maskformer_ext.engine.loop import train
from maskformer_ext.errors import UserError

_SMALL = (
    "model.backbone=test_resnet",
    "model.backbone_weights=null",
    "model.hidden_dim=32",
    "model.num_heads=2",
    "model.mask_dim=32",
    "model.pixel_decoder_dim=32",
    "model.feedforward_dim=32",
    "model.decoder_layers=1",
    "train.max_iters=2",
    "train.batch_size=2",
    "train.checkpoint_period=1",
    "data.num_workers=0",
)
_CARS = '{"things": ["car"], "stuff": ["background"]}'


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Masks of 0 and 255, the commonest kind."""
    return write_folder(tmp_path / "data", "background\nobject\n", lambda g, s, n: squares(255))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Labels that hold both classes, of 96 x 64 pixels."""
    return write_folder(tmp_path / "good", "background\nobject\n", lambda g, s, n: squares(1, shape=(96, 64)))


def _arguments(root: Path, output: Path, *more: str, recipe: str = "semantic_folder") -> list[str]:
    return [f"config={recipe}", f"data.root={root}", f"output_dir={output}", *_SMALL, *more]


def _config(root: Path, output: Path, *more: str, recipe: str = "semantic_folder") -> Config:
    return load_config(recipe, _arguments(root, output, *more)[1:])


def test_masks_of_0_and_255_are_refused_in_one_line(masks: Path, tmp_path: Path, capsys) -> None:
    assert command.main(_arguments(masks, tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: the training labels never hold class 1 "object"') and error.count("\n") == 1
    assert "255" in error and "data.check=warn trains nevertheless" in error
    assert not (tmp_path / "run").exists()


def test_a_warning_trains_and_the_scores_name_the_class(masks: Path, tmp_path: Path, capsys) -> None:
    assert command.main(_arguments(masks, tmp_path / "run", "data.check=warn")) == 0
    output = capsys.readouterr().out
    assert 'warning: the training labels never hold class 1 "object"' in output
    assert "train labels, 4 of 4 images looked at: background 97.6%, object 0.0%, void (255) 2.4%" in output
    assert "the truth holds 1 of 2 classes, never object" in output
    assert "The truth holds 1 of 2 classes, never object." in (tmp_path / "run" / "results.html").read_text()


def test_the_check_can_be_left_out(masks: Path, tmp_path: Path, capsys) -> None:
    assert command.main(_arguments(masks, tmp_path / "run", "data.check=none")) == 0
    assert "images looked at" not in capsys.readouterr().out


def test_what_was_chosen_is_printed_recorded_and_kept_by_the_weights(good: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    assert command.main(_arguments(good, run)) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("chosen from the data"))
    assert "the median shorter side of 4 images is 64" in line and "inference.min_size=64" in line
    checkpoint = find_checkpoint(run)
    assert checkpoint is not None
    weights = load_model(checkpoint / "model.safetensors").recipe
    assert weights is not None
    for config in (load_config(run), weights):
        assert config.data.augmentation.min_sizes == [45, 54, 64, 74, 83]
        assert config.data.augmentation.crop_size == [64, 64]
        assert (config.inference.min_size, config.model.num_queries, config.data.fit) == (64, 20, [])


def test_a_run_that_is_taken_up_keeps_its_values_whatever_the_data_is_now(good: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    train(_config(good, run))
    for split in ("train", "val"):
        for file in (good / split / "labels").iterdir():
            file.unlink()
        for file in (good / split / "images").iterdir():
            file.unlink()
    other = write_folder(tmp_path / "other", "background\nobject\n", lambda g, s, n: squares(1, shape=(128, 160)))
    capsys.readouterr()
    train(_config(other, run, "resume=auto", "train.max_iters=3"))
    assert "chosen" not in capsys.readouterr().out
    assert load_config(run).inference.min_size == 64
    assert json.loads((run / "metrics.json").read_text())["training"]["iterations"] == 3


def _fitted(root: Path, *overrides: str, recipe: str = "semantic_folder") -> tuple[Config, list[str]]:
    config = load_config(recipe, [f"data.root={root}", *overrides])
    dataset = build_dataset(config.data, "train")
    return fit(config, dataset, look(dataset, "train"))


@pytest.mark.parametrize(
    ("overrides", "min_sizes", "crop", "test_size", "queries"),
    [
        ((), [45, 54, 64, 74, 83], [64, 64], 64, 20),
        (("data.augmentation.min_sizes=[100]",), [100], [96, 96], 100, 20),
        (("inference.min_size=200",), [140, 170, 200, 230, 260], [192, 192], 200, 20),
        (("data.augmentation.min_sizes=[]",), [], [64, 64], 0, 20),
        (("data.augmentation.crop_size=[]",), [45, 54, 64, 74, 83], [], 64, 20),
        (("inference.min_size=0",), [45, 54, 64, 74, 83], [64, 64], 0, 20),
        (("model.num_queries=7",), [45, 54, 64, 74, 83], [64, 64], 64, 7),
        (("init_from=weights.pth",), [45, 54, 64, 74, 83], [64, 64], 64, 32),  # weights have a number of queries
        (("data.fit=[]",), [269, 326, 384, 442, 499], [384, 384], 384, 32),
        (("data.fit=[inference.min_size]",), [269, 326, 384, 442, 499], [384, 384], 384, 32),
    ],
)
def test_what_is_given_wins_and_the_rest_follows_it(good, overrides, min_sizes, crop, test_size, queries) -> None:
    config, _ = _fitted(good, *overrides)
    augmentation = config.data.augmentation
    assert (augmentation.min_sizes, augmentation.crop_size) == (min_sizes, crop)
    assert (config.inference.min_size, config.model.num_queries) == (test_size, queries)


def test_a_yaml_file_gives_values_too(good: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("base: semantic_folder\nmodel: {num_queries: 9}\ndata: {augmentation: {crop_size: [32, 48]}}\n")
    assert load_config(file).data.fit == ["data.augmentation.min_sizes", "inference.min_size"]
    config, _ = _fitted(good, recipe=str(file))
    assert (config.model.num_queries, config.data.augmentation.crop_size) == (9, [32, 48])
    assert load_config(file, {"inference.min_size": 64}).data.fit == ["data.augmentation.min_sizes"]


def test_large_images_are_brought_to_a_size_that_trains(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", "a\nb\n", lambda g, s, n: squares(1, shape=(1200, 900)), images=2)
    config, lines = _fitted(root)
    assert (config.inference.min_size, config.data.augmentation.crop_size) == (384, [384, 384])
    assert "the median shorter side of 2 images is 900" in lines[0]


@pytest.mark.parametrize(("instances", "queries"), [(3, 20), (40, 50), (250, 300)])
def test_queries_follow_the_instances(tmp_path: Path, instances: int, queries: int) -> None:
    def draw(generator: np.random.Generator, split: str, number: int) -> np.ndarray:
        return squares(*range(1, 1 + (instances if number == 0 else 2)), side=2)

    root = write_folder(tmp_path / "data", _CARS, draw)
    config, _ = _fitted(root, recipe="instance_folder")
    assert config.model.num_queries == queries


def test_more_instances_than_queries_are_told(tmp_path: Path, capsys) -> None:
    root = write_folder(tmp_path / "data", _CARS, lambda g, s, n: squares(*range(1, 13)))
    assert command.main(_arguments(root, tmp_path / "run", "model.num_queries=8", recipe="instance_folder")) == 0
    assert "warning: up to 12 instances per image (4 of 4 images looked at), but model.num_queries=8" in (
        capsys.readouterr().out
    )


def test_the_folder_recipes_are_neutral() -> None:
    for name in ("semantic_folder", "instance_folder"):
        config = load_config(name)
        augmentation = config.data.augmentation
        assert not augmentation.vertical_flip and not augmentation.rotate90 and config.inference.tile == 0
        assert config.inference.min_size == sorted(augmentation.min_sizes)[len(augmentation.min_sizes) // 2]
    others = [name for name in available_configs() if not name.endswith("folder")]
    assert all(load_config(name).data.fit == [] for name in others)


def test_a_key_that_cannot_be_chosen_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.fit must be one of data\.augmentation\.min_sizes, .* got 'optimizer"):
        load_config("semantic_folder", ["data.fit=[optimizer.lr]"])
    with pytest.raises(UserError, match=r"data\.check must be one of error, warn, none, got 'maybe'"):
        load_config("semantic_folder", ["data.check=maybe"])


def test_processes_train_with_the_values_that_the_first_one_chose(good: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    environment = os.environ | {"PYTHONPATH": str(Path(maskformer_ext.__file__).parents[1])}
    done = subprocess.run(
        [*launch, "maskformer_ext.train", *_arguments(good, run)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("chosen from the data") == 1 and done.stdout.count("images looked at") == 1
    assert load_config(run).model.num_queries == 20


def test_a_fault_ends_every_process(masks: Path, tmp_path: Path, monkeypatch) -> None:
    sent: list[list] = []

    def broadcast(values: list, from_process: int) -> list:
        sent.append(values)
        return sent[0]  # what the first process sent

    monkeypatch.setattr("accelerate.utils.broadcast_object_list", broadcast)
    config = _config(masks, tmp_path / "run")
    val_set = build_dataset(config.data, "val")
    for main in (True, False):
        accelerator = SimpleNamespace(is_main_process=main, num_processes=2)
        with pytest.raises(UserError, match="never hold class 1"):
            fit_to_data(config, val_set, accelerator, None)
    assert sent[1][0] is None  # the second one did not look
