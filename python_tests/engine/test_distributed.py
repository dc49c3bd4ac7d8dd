"""Several processes over gloo: they train as one, and when one is killed the job ends with a sentence and goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from runs import read_losses, small_arguments, small_config, uneven_loader

import maskformer_ext
from maskformer_ext import evaluate
from maskformer_ext.checkpoints.layouts.native import MODEL_FILE, read_weights
from maskformer_ext.checkpoints.runs import find_checkpoint
from maskformer_ext.engine import loop
from maskformer_ext.engine.distributed import explain_lost_processes
from maskformer_ext.engine.loop import train
from maskformer_ext.errors import UserError

# Nothing in the network depends on how a batch is split. The class loss is a weighted mean in every process, as in the
# original: with equal weights its mean over processes is the mean over the batch, whatever the numbers of segments.
_OPTIONS = (
    "model.dropout=0",
    "model.freeze_batch_norm=true",
    "criterion.no_object_weight=1",
    "train.batch_size=4",
    "train.checkpoint_period=2",
    "data.num_val=3",
)


def _launch(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Start two processes of what torchrun's arguments say."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    # What a script imports is searched beside the script, not in the folder where it is started.
    environment = os.environ | {"PYTHONPATH": str(Path(maskformer_ext.__file__).parents[1])}
    return subprocess.run(
        [*launch, *arguments], check=check, timeout=300, capture_output=True, text=True, env=environment
    )


def _train(output_dir: Path, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("train_in_processes.py")
    return _launch(str(script), *small_arguments(output_dir, *_OPTIONS, *more), check=check)


def _final_weights(output_dir: Path) -> dict[str, torch.Tensor]:
    checkpoint = find_checkpoint(output_dir)
    assert checkpoint is not None and checkpoint.name == "iter_0000004"
    return read_weights(checkpoint / MODEL_FILE)[0]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run of two processes, four steps long."""
    folder = tmp_path_factory.mktemp("two")
    _train(folder)
    return folder


@pytest.mark.slow
def test_two_processes_equal_one_with_the_doubled_batch(two: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "build_loader", uneven_loader)
    train(small_config(tmp_path, *_OPTIONS))
    for key in ("loss", "loss_ce", "loss_mask", "loss_dice", "loss_mask_0", "grad_norm"):
        assert read_losses(two, key) == pytest.approx(read_losses(tmp_path, key), rel=1e-4)
    ours, expected = _final_weights(two), _final_weights(tmp_path)
    assert ours.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-5, msg=partial("{}: {}".format, key))
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (two, tmp_path)]
    assert metrics[0]["mIoU"] == pytest.approx(metrics[1]["mIoU"], abs=1e-3)
    assert metrics[0]["images"] == 3 and metrics[0]["training"]["processes"] == 2


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_resuming_goes_on(two: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    result = _train(tmp_path, "kill_rank_1_at=3", check=False)
    assert result.returncode != 0 and time.monotonic() - started < 150  # seconds, nearly all of them imports
    (message,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "process 0 of 2 lost another one" in message
    assert f"go on from {tmp_path}/checkpoints/iter_0000002 with the same command and resume=auto" in message
    assert "Signal 9 (SIGKILL)" in result.stderr  # torchrun's own summary

    _train(tmp_path, "resume=auto")
    whole = read_losses(two)
    assert {step: loss for step, loss in read_losses(tmp_path).items() if step > 2} == {3: whole[3], 4: whole[4]}
    expected = _final_weights(two)
    assert all(torch.equal(value, expected[key]) for key, value in _final_weights(tmp_path).items())


@pytest.mark.slow
def test_the_command_shares_the_images_out(two: Path, tmp_path: Path) -> None:
    arguments = [f"checkpoint={two}", "data.num_val=1", "device=cpu"]  # one process has no image at all
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    assert evaluate.main([*arguments, f"output={files[0]}"]) == 0
    result = _launch("-m", "maskformer_ext.evaluate", *arguments[:2], f"output={files[1]}")
    assert result.stdout.splitlines().count(str(files[1])) == 1  # the first process alone speaks
    expected, ours = (json.loads(file.read_text()) for file in files)
    assert ours.pop("seconds") > 0 and expected.pop("seconds") > 0
    assert ours == expected and ours["images"] == 1


def test_a_device_is_not_chosen_under_torchrun(monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert evaluate.main(["checkpoint=run", "device=cpu"]) == 2
    assert "device=cpu does not go with torchrun" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("[/a/gloo/pair.cc:5] Read error [::1]:22: Connection reset. This is typically..."), "Connection"),
        (torch.distributed.DistBackendError("NCCL error in: x.cpp:1, remote process exited"), "NCCL error"),
    ],
)
def test_a_lost_process_is_one_sentence(error: RuntimeError, reason: str) -> None:
    with pytest.raises(UserError, match=rf"process 0 of 1 lost another one.*\(.*{reason}.*\): .*; go on") as caught:
        with explain_lost_processes(lambda: "go on"):
            raise error
    assert "pair.cc" not in str(caught.value) and "typically" not in str(caught.value)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"), explain_lost_processes(lambda: "go on"):
        raise RuntimeError("size mismatch")
