"""Files of a run that somebody forged or damaged: success, or one sentence that names the file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
import yaml
from forge import forged
from torch import nn
from typed import present

from maskformer_ext.checkpoints.runs import damage, find_checkpoint
from maskformer_ext.config import Config, to_dict
from maskformer_ext.config.load import load_config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.engine.checkpoints import load_training_state, save_checkpoint
from maskformer_ext.engine.optimizer import build_optimizer, restore_optimizer, restore_scaler
from maskformer_ext.engine.progress import read_history
from maskformer_ext.errors import UserError

INFO = DatasetInfo(name="two", classes=("a", "b"), colors=((1, 2, 3), (4, 5, 6)), thing_classes=(1,))


def _trained() -> tuple[nn.Module, torch.optim.Optimizer, torch.amp.GradScaler]:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    optimizer = build_optimizer(model, Config().optimizer)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer, torch.amp.GradScaler("cpu", init_scale=1.0)


def _resume(state: dict, file: Path) -> None:
    """Do with a training state what a resumed run does."""
    _, optimizer, scaler = _trained()
    restore_optimizer(optimizer, state.get("optimizer"), file)
    restore_scaler(scaler, state.get("scaler"), file)
    optimizer.param_groups[0]["params"][0].grad = torch.ones(2, 3)
    optimizer.step()


def _plain(value):
    """Turn tensors into lists, so that every number in them can be forged too."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("part", range(4))
def test_a_forged_training_state_resumes_or_is_one_sentence(tmp_path: Path, part: int) -> None:
    model, optimizer, scaler = _trained()
    training = {
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "weights": model.state_dict(),
        "seconds": 1.5,
        "bad_steps": 0,
        "untrained": {"mIoU": 0.1, "per_class": {"a": {"IoU": 0.1}}},
        "iteration": 3,
    }
    file, refused = tmp_path / "training_state.pt", 0
    for seed in range(100 * part, 100 * part + 100):
        torch.save(forged(_plain(training), seed), file)
        try:
            _resume(load_training_state(tmp_path), file)
        except UserError as error:
            refused += 1
            assert str(file) in str(error) and str(error).isprintable()
    assert refused > 50


@pytest.mark.parametrize(
    "content", [[], 3, "text", None, {"iteration": -1}, {"iteration": 1.5}, {"seconds": torch.nan}]
)
def test_another_structure_is_no_training_state(tmp_path: Path, content) -> None:
    torch.save(content, tmp_path / "training_state.pt")
    with pytest.raises(UserError, match=r"training_state\.pt is not a training state of this program: "):
        load_training_state(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s["state"][0].pop("exp_avg_sq"), "parameter 0 must have exp_avg, exp_avg_sq, step"),
        (lambda s: s["state"][0].update(exp_avg=torch.zeros(5)), r"exp_avg of parameter 0 must be .* \(2, 3\)"),
        (lambda s: s["state"].update({9: s["state"][0]}), "list index out of range"),
        (lambda s: s["param_groups"][0]["params"].pop(), "other parameters"),
        (lambda s: s["param_groups"].pop(), "other parameters"),
        (lambda s: s.pop("state"), "'state' is missing"),
    ],
)
def test_an_optimizer_of_other_parameters_is_refused(spoil, message: str) -> None:
    _, optimizer, _ = _trained()
    state = optimizer.state_dict()
    spoil(state)
    with pytest.raises(UserError, match=rf"^FILE is not a training state of this configuration: .*{message}"):
        restore_optimizer(_trained()[1], state, "FILE")


def test_moments_are_taken_up_and_rates_are_not() -> None:
    _, before, _ = _trained()
    state = before.state_dict()
    state["param_groups"][0]["lr"] = 5.0
    _, after, _ = _trained()
    after.state.clear()
    restore_optimizer(after, state, "FILE")
    assert after.param_groups[0]["lr"] == Config().optimizer.lr
    assert torch.equal(after.state_dict()["state"][0]["exp_avg"], state["state"][0]["exp_avg"])


def _checkpoint(folder: Path, iteration: int = 1) -> Path:
    return save_checkpoint(
        folder, iteration, model=nn.Linear(3, 2), config=Config(), info=INFO, training={"seconds": 1.0}
    )


def test_a_forged_manifest_is_damage(tmp_path: Path) -> None:
    folder = _checkpoint(tmp_path)
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    for seed in range(200):
        file.write_text(json.dumps(forged(manifest, seed)))
        problem = damage(folder)
        assert problem is None or (str(folder) in problem and problem.isprintable())
        assert find_checkpoint(tmp_path) == (folder if problem is None else None)
    for text in ("[" * 100_000, "", "\xff", '{"files": {}}', '{"files": {"../../x": {}}}', '{"files": 3}'):
        file.write_text(text)
        assert str(file) in present(damage(folder))


def test_a_manifest_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    folder = _checkpoint(tmp_path)
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    for name in ("/dev/zero", "../latest", "a/../manifest.json", "a\x00b"):
        manifest["files"][name] = {"bytes": 0, "sha256": ""}
        file.write_text(json.dumps(manifest))
        problem = present(damage(folder))
        assert "which is no file of a checkpoint" in problem or "is missing" in problem
        del manifest["files"][name]


@pytest.mark.parametrize("content", [b"../../x", b"/etc", b"\x00", b"\xff\xfe", b"a" * 100_000])
def test_latest_never_leads_out_of_the_folder(tmp_path: Path, content: bytes) -> None:
    folder = _checkpoint(tmp_path)
    (tmp_path / "checkpoints" / "latest").write_bytes(content)
    assert find_checkpoint(tmp_path) == folder


def test_damaged_lines_of_a_history_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    good = {"iteration": 3, "kind": "train", "loss": 0.5}
    lines = [
        *(
            '{"iteration": 1, "lo',
            "",
            "[]",
            "3",
            "null",
            "{}",
            '{"iteration": "2"}',
            '{"iteration": NaN}',
            "[" * 100_000,
        ),
        '{"iteration": 2, "flag": true, "loss": "much", "lr": 1e400}',
        json.dumps(good),
    ]
    path.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    assert read_history(path) == [{"iteration": 2}, good]


def test_a_forged_yaml_loads_or_is_one_sentence(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    path, loaded = tmp_path / "mine.yaml", 0
    values = {"base": ["digits"], **to_dict(Config())}
    for seed in range(50):
        path.write_text(yaml.safe_dump(forged(values, seed)))
        try:
            assert "hunter2" not in str(load_config(path))
            loaded += 1
        except UserError as error:
            assert str(error).isprintable() and "hunter2" not in str(error)
    assert 0 < loaded < 50


def test_damaged_bytes_of_a_yaml_are_one_sentence(tmp_path: Path) -> None:
    path, rng = tmp_path / "mine.yaml", random.Random(0)
    content = yaml.safe_dump(to_dict(Config())).encode()
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 3))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            load_config(path)
        except UserError as error:
            assert str(error).isprintable()
