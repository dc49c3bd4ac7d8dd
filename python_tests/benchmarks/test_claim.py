"""The comparison of mask with per-pixel classification: which runs it starts, and its table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import claim
from maskformer_ext.config.load import load_config

TINY = [
    "train.max_iters=1", "train.batch_size=2", "data.num_train=4", "data.num_val=2", "data.num_workers=0",
    "model.backbone=resnet18", "model.backbone_weights=null", "model.hidden_dim=32", "model.feedforward_dim=32",
]  # fmt: skip


def test_every_variant_is_a_configuration_and_every_training_has_its_own_folder(tmp_path):
    folders: dict[Path, list[str]] = {}
    for study in claim.STUDIES.values():
        for variant in study.values():
            changes = [change.format(classes=126) for change in variant.training]
            load_config("digits_fine", [*changes, *variant.inference])
            folder = claim.run_folder(tmp_path, "digits_fine", changes, 2)
            assert folders.setdefault(folder, changes) == changes
    assert tmp_path / "digits_fine" / "recipe" / "seed2" in folders
    load_config("digits_fine", list(claim.WARM_UP["digits_fine"]))


def test_finished_runs_are_not_repeated_and_those_of_other_settings_or_that_failed_end_the_command(
    tmp_path, monkeypatch
):
    commands = []

    def run(command, **_):
        commands.append(command)
        (tmp_path / "metrics.json").write_text(json.dumps({"mIoU": 0.5}))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):
        claim.train(tmp_path, "digits_fine", ["model.num_queries=7", "seed=2"], 1)
    (command,) = commands
    assert {"config=digits_fine", "seed=2", "model.num_queries=7", f"output_dir={tmp_path}"} <= set(command)
    with pytest.raises(SystemExit, match="was trained with other settings"):
        claim.train(tmp_path, "digits_fine", ["model.num_queries=8", "seed=2"], 1)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=3))
    with pytest.raises(SystemExit, match=r"ended with 3; see .*log\.txt"):
        claim.train(tmp_path / "other", "digits_fine", [], 1)


@pytest.mark.slow
def test_a_study_trains_evaluates_and_tabulates(tmp_path, monkeypatch, capsys):
    arguments = ["--study", "inference", "--seeds", "1", "--jobs", "2", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["claim", "--recipe", "digits_fine", *arguments, *TINY])
    monkeypatch.setitem(claim.WARM_UP, "digits_fine", (*claim.WARM_UP["digits_fine"][:2], "train.max_iters=1"))
    claim.main()
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split(" | ")[1:4] for line in lines[-2:]] == [
        ["inference", "semantic (sum over queries)", "1"],
        ["inference", "general (argmax of queries)", "1"],
    ]
    assert (tmp_path / "digits_fine.md").read_text().strip().splitlines() == lines[-4:]
    weights = json.loads((tmp_path / "digits_fine" / "recipe" / "seed0" / "claim.json").read_text())
    assert any("backbone_weights" in setting and "backbone/checkpoints" in setting for setting in weights)


def test_the_table_gives_mean_and_spread():
    runs = {("digits_fine", "claim", "MaskFormer"): [{"mIoU": 0.4}, {"mIoU": 0.6}], ("camvid", "claim", "one"): []}
    lines = claim.table(runs).splitlines()
    assert lines[2] == "| digits_fine | claim | MaskFormer | 2 | 0.500 ± 0.141 | - | - |"
    assert lines[3] == "| camvid | claim | one | 0 | - | - | - |"
