"""Checkpoints: whole or not there, whatever happens while they are written."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from typed import present

from maskformer_ext.checkpoints.layouts.native import assign_weights, read_weights
from maskformer_ext.checkpoints.runs import damage, find_checkpoint, resolve_checkpoint
from maskformer_ext.config import Config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.engine import checkpoints
from maskformer_ext.engine.checkpoints import load_training_state, save_checkpoint
from maskformer_ext.errors import UserError

INFO = DatasetInfo(name="two", classes=("a", "b"), colors=((1, 2, 3), (4, 5, 6)), thing_classes=(1,))


def _save(folder: Path, iteration: int, *, model: nn.Module | None = None, keep: int = 2, **training) -> Path:
    return save_checkpoint(
        folder, iteration, model=model or nn.Linear(3, 2), config=Config(), info=INFO, training=training, keep=keep
    )


def test_a_checkpoint_holds_weights_configuration_classes_and_training_state(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    folder = _save(tmp_path, 500, model=model, optimizer=optimizer.state_dict())
    assert folder == tmp_path / "checkpoints" / "iter_0000500" == find_checkpoint(tmp_path)
    assert (tmp_path / "checkpoints" / "latest").read_text() == folder.name
    weights, header = read_weights(resolve_checkpoint(tmp_path))
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    assert json.loads(header["dataset"])["classes"] == ["a", "b"]
    restored = load_training_state(folder)
    assert restored["iteration"] == 500
    assert torch.equal(restored["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


def test_folder_file_and_output_folder_stand_for_the_same_checkpoint(tmp_path):
    folder = _save(tmp_path, 1)
    file = folder / "model.safetensors"
    assert {resolve_checkpoint(path) for path in (tmp_path, tmp_path / "checkpoints", folder, file)} == {file}


def test_only_the_newest_are_kept(tmp_path):
    for iteration in (10, 20, 30):
        _save(tmp_path, iteration, keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").glob("iter_*")) == ["iter_0000020", "iter_0000030"]
    _save(tmp_path, 5, keep=2)  # after going back to an older one, the new one stays
    assert present(find_checkpoint(tmp_path)).name == "iter_0000005"


@pytest.mark.parametrize("name", ["model.safetensors", "training_state.pt", "config.yaml", "manifest.json"])
@pytest.mark.parametrize("how", ["cut", "flip", "gone"])
def test_a_damaged_checkpoint_is_never_chosen(tmp_path, name, how):
    older = _save(tmp_path, 1)
    newer = _save(tmp_path, 2)
    path = newer / name
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flip":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    else:
        path.unlink()
    assert damage(newer) is not None
    assert find_checkpoint(tmp_path) == older
    if name != "manifest.json" and (how != "gone" or name != "model.safetensors"):
        with pytest.raises(UserError, match="is damaged"):
            resolve_checkpoint(newer)


@pytest.mark.parametrize("pointer", ["", "iter_0000009", "\x00\xff", "../../etc"])
def test_a_wrong_pointer_is_passed_over(tmp_path, pointer):
    _save(tmp_path, 1)
    newest = _save(tmp_path, 2)
    (tmp_path / "checkpoints" / "latest").write_text(pointer)
    assert find_checkpoint(tmp_path) == newest


@pytest.mark.parametrize("function", ["write_model_files", "digest_of", "write_json", "write_text"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_failing_write_loses_no_earlier_checkpoint(tmp_path, monkeypatch, function, call):
    earlier = _save(tmp_path, 1)
    original, calls = getattr(checkpoints, function), []

    def fails(*arguments, **options):
        calls.append(arguments)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        return original(*arguments, **options)

    monkeypatch.setattr(checkpoints, function, fails)
    try:
        _save(tmp_path, 2)
    except UserError as error:
        assert "No space left on device" in str(error)
    monkeypatch.undo()
    found = find_checkpoint(tmp_path)
    assert found in (earlier, tmp_path / "checkpoints" / "iter_0000002") and damage(earlier) is None
    _save(tmp_path, 3)  # what the failure left does not stand in the way
    assert present(find_checkpoint(tmp_path)).name == "iter_0000003"
    assert not list((tmp_path / "checkpoints").glob(".iter_*"))


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_crash_between_renames_keeps_a_complete_checkpoint(tmp_path, monkeypatch, call):
    _save(tmp_path, 1, keep=1)
    original, calls = os.replace, []

    def fails(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(checkpoints.os, "replace", fails)
    with pytest.raises(KeyboardInterrupt):
        _save(tmp_path, 1, keep=1)  # the same iteration again: the old folder has to make way
    monkeypatch.undo()
    assert find_checkpoint(tmp_path) is not None


_WRITER = """
import sys, torch
from torch import nn
from maskformer_ext.config import Config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.engine.checkpoints import save_checkpoint
model = nn.Linear(1500, 1500)
info = DatasetInfo(name="one", classes=("a",), colors=((0, 0, 0),))
for iteration in range(1, 10**6):
    save_checkpoint(sys.argv[1], iteration, model=model, config=Config(), info=info,
                    training={"weights": model.state_dict()}, keep=2)
    print(iteration, flush=True)
"""


def test_kill_9_while_saving_loses_no_earlier_checkpoint(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    reported = 0
    for attempt in range(4):
        reported = int(present(process.stdout).readline())
        time.sleep(0.013 * (attempt + 1))  # some way into the next save
    process.send_signal(signal.SIGKILL)
    rest = process.communicate(timeout=60)[0].split()
    reported = int(rest[-1]) if rest else reported
    found = present(find_checkpoint(tmp_path))
    assert damage(found) is None
    assert load_training_state(found)["iteration"] in (reported, reported + 1)


class _Payload:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_pickle_in_the_training_state_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = _save(tmp_path, 1)
    with (folder / "training_state.pt").open("wb") as file:
        pickle.dump(_Payload(), file)
    with pytest.raises(UserError, match="is not a training state"):
        load_training_state(folder)
    torch.save({"iteration": _Payload()}, folder / "training_state.pt")
    with pytest.raises(UserError, match="is not a training state"):
        load_training_state(folder)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Linear(3, 4), r"number of classes: 'weight' is \(2, 3\) there, but \(4, 3\) in this model"),
        (nn.Sequential(nn.Linear(3, 2)), "another architecture: it lacks '0.weight'"),
        (nn.Linear(3, 2, bias=False), "another architecture: this model has no 'bias'"),
    ],
)
def test_weights_of_another_architecture_name_the_key(other, message):
    with pytest.raises(UserError, match=message):
        assign_weights(other, nn.Linear(3, 2).state_dict(), "x.safetensors")


def test_what_is_no_checkpoint_is_said_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        resolve_checkpoint(tmp_path / "none")
    with pytest.raises(UserError, match="holds no complete checkpoint"):
        resolve_checkpoint(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"not one")
    with pytest.raises(UserError, match="cannot be read"):
        read_weights(file)
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1)}, file)
    with pytest.raises(UserError, match="was not written by maskformer-ext: its header lacks config and dataset"):
        read_weights(file)
