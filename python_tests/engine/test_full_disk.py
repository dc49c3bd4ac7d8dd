"""A disk that is full or read-only ends in one sentence, leaves nothing half written, and costs no checkpoint."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from runs import SMALL
from torch import nn
from typed import present

from maskformer_ext import train
from maskformer_ext.checkpoints.layouts.native import read_weights
from maskformer_ext.checkpoints.runs import damage, find_checkpoint
from maskformer_ext.config import Config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.engine.checkpoints import save_checkpoint
from maskformer_ext.engine.progress import History, read_history
from maskformer_ext.engine.tensorboard_files import Board
from maskformer_ext.errors import UserError
from maskformer_ext.files import append_text

INFO = DatasetInfo(name="one", classes=("a",), colors=((0, 0, 0),))


def _save(folder: Path, iteration: int, size: int = 3) -> Path:
    model = nn.Linear(size, size)
    training = {"weights": model.state_dict()}
    return save_checkpoint(folder, iteration, model=model, config=Config(), info=INFO, training=training)


def _left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.startswith(".") or "replaced" in path.name]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, where this machine lets tests make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_checkpoint_on_a_full_disk(small_disk: Path) -> None:
    earlier = _save(small_disk, 1)
    for size in (600, 2000):  # the training state, or the weights already, do not fit
        with pytest.raises(UserError, match=r"iter_0000002 could not be written: No space left on device; earlier"):
            _save(small_disk, 2, size)
        assert not _left_over(small_disk) and find_checkpoint(small_disk) == earlier and damage(earlier) is None
    with pytest.raises(UserError, match="No space left on device"):
        _save(small_disk, 1, 2000)  # the same iteration again
    assert not _left_over(small_disk) and find_checkpoint(small_disk) == earlier and damage(earlier) is None


_EXPORT = """
import sys, torch
from pathlib import Path
from maskformer_ext.config import Config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError
from maskformer_ext.inference.programs.metadata import ProgramMetadata
from maskformer_ext.inference.programs.tracing import write_program
info = DatasetInfo("two", ("a", "b"), ((0, 0, 0), (9, 9, 9)))
metadata = ProgramMetadata("semantic", ("classes",), None, None, Config(), info, "1")
try:
    program = torch.export.export(torch.nn.Linear(1000, 1000), (torch.zeros(1, 1000),))
    write_program(program, Path(sys.argv[1]), metadata)
except UserError as error:
    print(error)
"""


def test_an_exported_program_on_a_full_disk(small_disk: Path) -> None:
    """In a process of its own: torch's writer of files would end it."""
    command = [sys.executable, "-c", _EXPORT, str(small_disk / "model.pt2")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{small_disk / 'model.pt2'} could not be written: No space left on device\n"
    assert not list(small_disk.iterdir())


def test_training_on_a_full_disk_is_one_sentence(small_disk: Path, capfd) -> None:
    (small_disk / "filler").write_bytes(bytes(1_000_000))
    assert train.main([f"config={SMALL}", f"output_dir={small_disk / 'run'}", "train.max_iters=1"]) == 2
    output = capfd.readouterr().err.splitlines()
    assert len([line for line in output if "No space left on device" in line]) == 1 and "Traceback" not in str(output)
    assert not _left_over(small_disk) and find_checkpoint(small_disk / "run") is None


def test_a_history_on_a_full_disk_keeps_whole_lines(small_disk: Path) -> None:
    history = History(small_disk)
    history.add(1, "train", {"loss": 0.5})
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(bytes(free))
    with pytest.raises(UserError, match="could not be written: No space left on device"):
        for iteration in range(2, 5000):
            history.add(iteration, "train", {"loss": 0.5})
    history.close()
    lines = (small_disk / "history.jsonl").read_text().splitlines()
    assert len(read_history(small_disk / "history.jsonl")) == len(lines) > 0


@pytest.mark.parametrize("error", [OSError(errno.EDQUOT, "Disk quota exceeded"), OSError(errno.EROFS, "Read-only")])
@pytest.mark.parametrize("writer", ["torch.save", "safetensors", "folder"])
def test_errors_of_every_writer_are_one_sentence(tmp_path: Path, monkeypatch, writer: str, error: OSError) -> None:
    earlier = _save(tmp_path, 1)

    def fails(*arguments, **options):
        if writer == "torch.save":
            try:
                raise error
            except OSError:
                raise RuntimeError("[enforce fail] . unexpected pos 704 vs 598")  # noqa: B904
        if writer == "safetensors":
            from safetensors import SafetensorError

            raise SafetensorError(f"Error while serializing: I/O error: x (os error {error.errno})")
        raise error

    place = {
        "torch.save": (torch, "save"),
        "safetensors": ("safetensors.torch", "save_file"),
        "folder": (Path, "mkdir"),
    }[writer]
    if isinstance(place[0], str):
        monkeypatch.setattr(f"{place[0]}.{place[1]}", fails)
    else:
        monkeypatch.setattr(*place, fails)
    with pytest.raises(UserError) as caught:
        _save(tmp_path, 2)
    monkeypatch.undo()
    reason = os.strerror(present(error.errno)) if writer == "safetensors" else present(error.strerror)
    assert str(caught.value).count(reason) == 1 and "iter_0000002" in str(caught.value)
    assert not _left_over(tmp_path) and find_checkpoint(tmp_path) == earlier and damage(earlier) is None


@pytest.mark.parametrize("output_dir", ["file", "file/below", "file/far/below"])
def test_an_output_folder_that_is_a_file_is_told_first(tmp_path: Path, capsys, output_dir: str) -> None:
    (tmp_path / "file").write_text("mine")
    assert train.main([f"config={SMALL}", f"output_dir={tmp_path / output_dir}"]) == 2
    assert "output_dir=" in (message := capsys.readouterr().err) and "is a file" in message
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "mine"


def test_what_a_full_device_took_of_a_line_is_taken_back() -> None:
    with pytest.raises(UserError, match=r"/dev/full could not be written"):
        append_text("/dev/full", "line\n")


def test_a_board_that_cannot_be_written_is_one_sentence(tmp_path: Path, capfd) -> None:
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(UserError, match="could not be written"):
        Board(tmp_path / "tensorboard")
    assert capfd.readouterr().err == ""


def test_a_board_is_read_by_tensorboard(tmp_path: Path) -> None:
    import numpy as np
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = Board(tmp_path)
    board.add_scalars(3, {"train/loss": 0.5})
    board.add_picture(3, "prediction/0", np.zeros((4, 6, 3), np.uint8))
    board.close()
    resumed = Board(tmp_path, purge_step=4)
    resumed.add_scalars(4, {"train/loss": 0.25})
    resumed.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(3, 0.5), (4, 0.25)]
    assert (events.Images("prediction/0")[0].width, events.Images("prediction/0")[0].height) == (6, 4)


def test_a_checkpoint_of_the_same_iteration_replaces_the_earlier(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    again = _save(tmp_path, 1, size=4)
    assert damage(again) is None and not _left_over(tmp_path)
    assert read_weights(again / "model.safetensors")[0]["weight"].shape == (4, 4)
