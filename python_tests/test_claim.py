"""The comparison of mask with per-pixel classification: which runs it starts, and its table."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace

import pytest

from benchmarks import claim
from maskformer_ext.config_io import load_config


def test_every_variant_is_a_configuration():
    for study in claim.STUDIES.values():
        for changes in study.values():
            load_config("digits_fine", [change.format(classes=126) for change in changes])


def test_finished_runs_are_not_repeated_and_failed_ones_end_the_command(tmp_path, monkeypatch):
    folder = claim.run_folder(tmp_path, "digits_fine", "PerPixelBaseline+", 2)
    assert folder == tmp_path / "digits_fine" / "perpixelbaseline_plus" / "seed2"
    commands = []

    def run(command):
        commands.append(command)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps({"mIoU": 0.5}))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):
        assert claim.train(folder, "digits_fine", ["model.num_queries=7"], 2) == {"mIoU": 0.5}
    (command,) = commands
    assert {"config=digits_fine", "seed=2", "model.num_queries=7", f"output_dir={folder}"} <= set(command)
    monkeypatch.setattr(subprocess, "run", lambda command: SimpleNamespace(returncode=3))
    with pytest.raises(SystemExit, match="ended with 3"):
        claim.train(tmp_path / "other", "digits_fine", [], 0)


def test_the_table_gives_mean_and_spread():
    runs = {("digits_fine", "MaskFormer"): [{"mIoU": 0.4}, {"mIoU": 0.6}], ("camvid", "one"): [{"mIoU": 0.25}]}
    lines = claim.table(runs).splitlines()
    assert lines[2] == "| digits_fine | MaskFormer | 2 | 0.500 ± 0.141 | - |"
    assert lines[3] == "| camvid | one | 1 | 0.250 | - |"
