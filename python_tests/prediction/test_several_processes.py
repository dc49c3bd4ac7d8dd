"""`predict` under torchrun: each file once, one settings file, one summary, no message twice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from PIL import Image
from tiny_run import save_tiny_run

import maskformer_ext
from maskformer_ext.media.videos import read_frames


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_run(tmp_path_factory.mktemp("run"))


def _launch(run: Path, source: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = [f"checkpoint={run}", f"input={source}", f"output={output}", *more]
    environment = os.environ | {"PYTHONPATH": str(Path(maskformer_ext.__file__).parents[1])}
    return subprocess.run(
        [*launch, "-m", "maskformer_ext.predict", *arguments],
        timeout=300,
        capture_output=True,
        text=True,
        env=environment,
    )


def _errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith(("error: ", "warning: "))]


@pytest.mark.slow
def test_two_processes_take_each_file_once(run: Path, tmp_path: Path) -> None:
    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    write_clip(photos / "0.mp4", frames=6)
    for number in range(1, 12):
        Image.fromarray(np.full((30, 40, 3), 20 * number, np.uint8)).save(photos / f"{number:02d}.png")
    (photos / "05.png").write_bytes(b"no image")
    (photos / "notes.txt").touch()

    done = _launch(run, photos, output, "task=semantic")
    assert done.returncode == 1
    assert len(_errors(done)) == 2 and "05.png: cannot be read as an image" in done.stderr
    assert _errors(done)[-1] == "error: 1 of 17 images failed"
    lines = done.stdout.splitlines()
    shown = [line.split(" ")[1] for line in lines if re.match(r"\d+/12 ", line)]
    assert sorted(shown) == ["0.mp4"] * 6 + [f"{n:02d}.png" for n in range(1, 12) if n != 5]
    assert sum(line.startswith("passed over: ") for line in lines) == 1
    assert [line for line in lines if line.startswith("16 images in ") and line.endswith(", 1 failed")]
    assert lines[-1] == str(output)
    assert json.loads((output / "settings.json").read_text())["task"] == "semantic"
    assert len(list((output / "json").rglob("*.json"))) == 16
    assert len(list(read_frames(output / "overlays" / "0.mp4"))) == 6

    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(photos / "05.png")
    done = _launch(run, photos, output, "task=semantic", "resume=true", "quiet=true", "queries=true")
    assert done.returncode == 0 and _errors(done) == []
    assert done.stdout == f"{output}\n" and (output / "json" / "05.json").is_file()
    assert (output / "queries.png").is_file()


@pytest.mark.slow
def test_what_all_processes_find_wrong_is_said_once(run: Path, tmp_path: Path) -> None:
    done = _launch(run, tmp_path / "nowhere.png", tmp_path / "out")
    assert done.returncode != 0
    assert len(_errors(done)) == 1 and "no such file or folder" in done.stderr
    assert not (tmp_path / "out").exists()
