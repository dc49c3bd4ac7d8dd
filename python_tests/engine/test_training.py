"""Training end to end, on tiny runs."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image
from runs import GeneratedLoader, read_losses, small_arguments, small_config, synthetic_loader
from typed import present

from maskformer_ext import train as command
from maskformer_ext.checkpoints.layouts.native import read_weights
from maskformer_ext.checkpoints.models import load_checkpoint
from maskformer_ext.checkpoints.runs import find_checkpoint
from maskformer_ext.data.build import build_loader
from maskformer_ext.engine import loop
from maskformer_ext.engine.average import WeightAverage
from maskformer_ext.engine.checkpoints import load_training_state
from maskformer_ext.engine.distributed import step_seed
from maskformer_ext.engine.loop import train
from maskformer_ext.errors import UserError

_STILL = ["model.dropout=0", "model.freeze_batch_norm=true"]  # nothing in the network depends on how a batch is split


def test_the_command_trains_scores_and_names_its_files_and_what_comes_next(tmp_path, capsys):
    arguments = small_arguments(tmp_path, "data.task=panoptic", "train.eval_period=2", "eval_untrained=true")
    assert command.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-7:] == [
        f"{tmp_path}/metrics.json",
        f"{tmp_path}/results.html",
        "next:",
        f"  maskformer-ext predict checkpoint={tmp_path} input=photo.jpg output=predictions",
        f"  maskformer-ext demo checkpoint={tmp_path}",
        f"  maskformer-ext evaluate checkpoint={tmp_path}",
        f"  maskformer-ext export checkpoint={tmp_path} output=model.onnx",
    ]
    assert sum("images/s" in line for line in lines) == 4
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert 0 <= metrics["mIoU"] <= 1 and 0 <= metrics["PQ"] <= 1
    assert "mIoU" in metrics["untrained"]
    assert metrics["training"]["iterations"] == 4 and metrics["training"]["images_per_second"] > 0
    assert (tmp_path / "results.html").stat().st_size > 1000
    assert list((tmp_path / "tensorboard").iterdir())
    records = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [r["iteration"] for r in records if r["kind"] == "eval"] == [0, 2, 4]
    assert all(math.isfinite(value) for value in read_losses(tmp_path).values())


def test_training_lowers_the_loss(tmp_path):
    options = ["train.max_iters=40", "data.num_train=2", "model.dropout=0", "train.log_period=5", "optimizer.lr=2e-3"]
    train(small_config(tmp_path, *options))
    losses = list(read_losses(tmp_path).values())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("options", [(), ("train.ema_decay=0.9",), ("train.precision=bf16", "data.num_workers=1")])
def test_a_resumed_run_has_identical_losses_and_weights(tmp_path, options):
    whole, part = tmp_path / "whole", tmp_path / "part"
    train(small_config(whole, "train.checkpoint_period=2", *options))
    shutil.copytree(whole / "checkpoints" / "iter_0000002", part / "checkpoints" / "iter_0000002")
    shutil.copy(whole / "history.jsonl", part)
    train(small_config(part, "resume=auto", *options))
    assert read_losses(part) == read_losses(whole)
    expected, found = (read_weights(present(find_checkpoint(run)) / "model.safetensors")[0] for run in (whole, part))
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_resume_by_path_and_a_second_start_from_nothing(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    train(small_config(first, "train.max_iters=1"))
    train(small_config(second, f"resume={first / 'checkpoints' / 'iter_0000001'}", "train.max_iters=2"))
    assert list(read_losses(second)) == [2]
    with pytest.raises(UserError, match=r"train\.batch_size"):
        train(small_config(second, "train.batch_size=3", "train.accumulation_steps=2"))
    assert present(find_checkpoint(second)).name == "iter_0000002"  # a run that cannot start leaves everything in place
    train(small_config(second, "train.max_iters=1"))  # resume=none keeps what was there
    assert present(find_checkpoint(second)).name == "iter_0000001"
    (aside,) = second.glob("previous-*")
    assert present(find_checkpoint(aside)).name == "iter_0000002"


def test_a_resumed_run_takes_rates_from_the_configuration(tmp_path):
    train(small_config(tmp_path, "train.max_iters=1", "schedule.name=step", "schedule.steps=[]"))
    more = ["train.max_iters=2", "schedule.name=step", "schedule.steps=[]", "optimizer.lr=0.001", "resume=auto"]
    train(small_config(tmp_path, *more))
    assert read_losses(tmp_path, "lr") == {1: 5e-4, 2: 1e-3}
    state = load_training_state(present(find_checkpoint(tmp_path)))["optimizer"]
    assert {group["lr"] for group in state["param_groups"]} == {1e-3}
    assert {float(entry["step"]) for entry in state["state"].values()} == {2.0}


def test_a_checkpoint_gives_back_the_model_that_was_scored(tmp_path):
    config = small_config(tmp_path, "train.max_iters=2", "train.ema_decay=0.5")
    train(config)
    model, saved, info = load_checkpoint(tmp_path)
    assert saved.model.num_classes == info.num_classes == model.num_classes
    assert dataclasses.replace(saved.model, num_classes=None) == config.model
    assert not model.training
    out = model(torch.zeros(1, 3, 64, 64))
    assert out.class_logits.shape[-1] == info.num_classes + 1 and torch.isfinite(out.class_logits).all()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.hidden_dim=64", r"is of another architecture or number of classes: '.*' is \(.*\) there"),
        ("model.decoder_layers=3", "is of another architecture: it lacks '.*'"),
        ("model.architecture=per_pixel_baseline", "is of another architecture"),
    ],
)
def test_resuming_with_another_architecture_names_the_key(tmp_path, override, message):
    train(small_config(tmp_path, "train.max_iters=1"))
    with pytest.raises(UserError, match=message):
        train(small_config(tmp_path, "train.max_iters=2", "resume=auto", override))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.num_classes=3",), "model.num_classes is 3, but the data set digits has"),
        (("train.batch_size=3", "train.accumulation_steps=2"), "train.batch_size must be a multiple of processes x"),
        (("resume=/there/is/none",), "checkpoint /there/is/none does not exist"),
    ],
)
def test_what_does_not_fit_is_one_line_and_status_2(tmp_path, capsys, overrides, message):
    assert command.main(small_arguments(tmp_path, *overrides)) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 works on a GPU")
def test_fp16_on_the_cpu_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"train\.precision=fp16 needs a GPU"):
        train(small_config(tmp_path, "train.precision=fp16"))


def _loader_with_nan(bad_iterations, seen=None):
    def batches(config, split, **options):
        for iteration, batch in enumerate(build_loader(config, split, **options), start=options["start"] + 1):
            if iteration in bad_iterations:
                batch.mean = (math.nan,) * 3
            if seen is not None:
                seen[iteration] = batch.names
            yield batch

    return lambda config, split, **options: GeneratedLoader(batches(config, split, **options))


def test_a_bad_step_is_skipped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "build_loader", _loader_with_nan({2}))
    metrics = train(small_config(tmp_path, "train.checkpoint_period=1", "train.keep_checkpoints=9"))
    assert metrics["training"]["bad_steps"] == 1
    assert set(read_losses(tmp_path, "bad_steps").values()) == {0, 1}
    before, after, later = (
        read_weights(tmp_path / "checkpoints" / f"iter_{i:07d}" / "model.safetensors")[0] for i in (1, 2, 3)
    )
    floating = [key for key, value in before.items() if value.is_floating_point()]
    assert all(torch.equal(before[key], after[key]) for key in floating)
    assert not all(torch.equal(after[key], later[key]) for key in floating)
    assert all(torch.isfinite(value).all() for value in later.values())


def test_bad_steps_in_a_row_stop_with_step_layer_and_images(tmp_path, monkeypatch):
    seen: dict[int, list[str]] = {}
    monkeypatch.setattr(loop, "build_loader", _loader_with_nan({2, 3, 4}, seen))
    with pytest.raises(UserError) as caught:
        train(small_config(tmp_path, "train.max_bad_steps=3"))
    text = str(caught.value)
    assert "step 4" in text and "decoder layer" in text and "3 such steps in a row" in text
    assert all(name in text for name in seen[4])


def test_accumulated_micro_batches_equal_the_big_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "build_loader", synthetic_loader)
    runs = {}
    for steps in (1, 2):
        folder = tmp_path / str(steps)
        train(small_config(folder, "train.batch_size=4", f"train.accumulation_steps={steps}", *_STILL))
        runs[steps] = read_losses(folder)
    assert runs[2] == pytest.approx(runs[1], rel=1e-4)


def test_channels_last_gives_the_same_losses(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "build_loader", synthetic_loader)
    train(small_config(tmp_path / "a", *_STILL))
    train(small_config(tmp_path / "b", "train.channels_last=true", *_STILL))
    assert read_losses(tmp_path / "b") == pytest.approx(read_losses(tmp_path / "a"), rel=1e-4)


def test_max_minutes_stops_early_and_still_scores(tmp_path, capsys):
    metrics = train(small_config(tmp_path, "train.max_iters=100", "train.max_minutes=0.0001"))
    assert metrics["training"]["iterations"] == 1 and "mIoU" in metrics
    assert present(find_checkpoint(tmp_path)).name == "iter_0000001"
    assert "train.max_minutes" in capsys.readouterr().out


@pytest.mark.parametrize("architecture", ["per_pixel_baseline", "per_pixel_baseline_plus"])
def test_the_baselines_train_with_the_same_loop(tmp_path, architecture):
    metrics = train(small_config(tmp_path, "train.max_iters=2", f"model.architecture={architecture}"))
    assert "mIoU" in metrics
    assert all(math.isfinite(value) for value in read_losses(tmp_path, "loss_sem_seg").values())


def test_the_average_follows_the_weights():
    model = torch.nn.BatchNorm1d(1)
    average = WeightAverage(model, decay=0.9)
    with torch.no_grad():
        model.weight.fill_(11.0)
        present(model.num_batches_tracked).fill_(5)
    average.update(updates=0)  # early updates forget faster: 1 / 10 stays
    assert average.model.get_parameter("weight").item() == pytest.approx(0.1 * 1 + 0.9 * 11)
    assert average.model.get_buffer("num_batches_tracked").item() == 5
    with torch.no_grad():
        model.weight.zero_()
    average.update(updates=10**6)
    assert average.model.get_parameter("weight").item() == pytest.approx(0.9 * 10.0)


def test_seeds_of_neighbouring_steps_differ():
    seeds = {step_seed(s, i, m, r) for s in range(3) for i in range(50) for m in range(3) for r in range(3)}
    assert len(seeds) == 3 * 50 * 3 * 3
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_file_that_does_not_fit_is_one_line_and_status_2(tmp_path, capsys):
    for split in ("train", "val"):
        for kind, mode in (("images", "RGB"), ("labels", "L")):
            folder = tmp_path / "data" / split / kind
            folder.mkdir(parents=True)
            for name in ("a", "b"):
                Image.new(mode, (64, 64)).save(folder / f"{name}.png")
    (tmp_path / "data" / "classes.txt").write_text("one\ntwo\n")
    Image.new("L", (64, 60)).save(tmp_path / "data" / "train" / "labels" / "b.png")
    data = ["data.name=semantic_folder", f"data.root={tmp_path / 'data'}", "data.num_workers=1"]
    arguments = small_arguments(tmp_path / "out", *data)
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "b.png" in error
    assert command.main([*arguments, "data.on_error=skip"]) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["training"]["skipped_images"] == 1


def _start(arguments: list[str]) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "maskformer_ext.train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, number):
    process = _start(small_arguments(tmp_path, "train.max_iters=100000", "data.num_workers=1"))
    for line in present(process.stdout):
        if line.strip().startswith("2/"):
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, errors
    checkpoint = present(find_checkpoint(tmp_path))
    done = int(checkpoint.name.removeprefix("iter_"))
    assert f"stopped by {number.name} after {done} iterations" in errors
    assert f"config={tmp_path}/config.yaml resume=auto" in errors and "Traceback" not in errors
    train(small_config(tmp_path, "resume=auto", f"train.max_iters={done + 1}"))
    assert max(read_losses(tmp_path)) == done + 1
