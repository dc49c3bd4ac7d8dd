"""``prepare`` on folders of the user's own: classes with counts, sizes, void, and what cannot be learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folder_sets import squares, write_folder
from PIL import Image

from maskformer_ext.prepare import main

_TWO = "background\nobject\n"
_CARS = '{"things": ["car"], "stuff": ["background"]}'


def _run(capsys, *arguments) -> tuple[int, str, str]:
    status = main([*map(str, arguments), "workers=0"])
    return status, *capsys.readouterr()


@pytest.mark.parametrize("form", [["semantic_folder", "{root}"], ["config=semantic_folder", "data.root={root}"]])
def test_a_folder_is_described(tmp_path: Path, capsys, form: list[str]) -> None:
    def draw(generator: np.random.Generator, split: str, number: int) -> np.ndarray:
        return squares(1, 255, shape=(40, 60)) if number else np.full((80, 50), 255, np.uint8)

    root = write_folder(tmp_path / "data", _TWO, draw)
    status, out, err = _run(capsys, *(part.format(root=root) for part in form))
    assert status == 0 and f"ready: data.name=semantic_folder data.root={root}" in out.splitlines()
    assert out.endswith(f"next:\n  maskformer-ext train config=semantic_folder data.root={root}\n")
    assert "train labels, 4 of 4 images looked at: background 58.9%, object 2.7%, void (255) 38.4%" in out
    assert "sizes from 60x40 to 50x80, median shorter side 40" in out
    assert "1 object 2.7% in 3 images" in " ".join(out.split()) and "1 void everywhere: 0" in out
    assert "warning: 1 train images are void everywhere" in err and "problem" not in err


def test_what_cannot_be_learnt_is_a_problem(tmp_path: Path, capsys) -> None:
    root = write_folder(tmp_path / "data", _TWO, lambda g, s, n: squares(255))
    status, out, err = _run(capsys, "semantic_folder", root, f"report={tmp_path / 'report.txt'}")
    assert status == 1 and "ready" not in out
    assert 'problem: the training labels never hold class 1 "object"' in err and "255" in err
    assert (tmp_path / "report.txt").read_text().count("\n") == 1


def test_instances_are_counted(tmp_path: Path, capsys) -> None:
    root = write_folder(tmp_path / "data", _CARS, lambda g, s, n: squares(*range(1, n + 1)))
    status, out, _ = _run(capsys, "instance_folder", root)
    assert status == 0 and "instance_folder (instance)" in out
    assert "outside instances" in out and "at most 3 instances per image" in out and "car" in out
    status, out, _ = _run(capsys, "instance_folder", root, "data.task=panoptic", "split=train")
    assert status == 0 and "1 without instance: 0" in out and "val labels" not in out


def test_every_wrong_file_is_named(tmp_path: Path, capsys) -> None:
    root = write_folder(tmp_path / "data", _TWO, lambda g, s, n: squares(1))
    (root / "train" / "labels" / "0.png").write_bytes(b"no image")
    (root / "train" / "images" / "1.png").write_bytes(b"no image")
    (root / "val" / "labels" / "2.png").unlink()
    Image.new("L", (9, 9), 7).save(root / "val" / "labels" / "3.png")
    status, _, err = _run(capsys, "semantic_folder", root)
    assert status == 1 and err.count("problem: ") == 4
    assert all(name in err for name in ("labels/0.png", "images/1.png", "images/2.png", "labels/3.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["semantic_folder"], "expected NAME and ROOT"),
        (["semantic_folder", ".", "model.num_queries=3"], "the keys are config, split"),
        (["semantic_folder", ".", "data.taks=semantic"], "did you mean 'data.task'"),
        (["semantic_folder", ".", "config=semantic_folder"], "config= does not go with"),
        (["config=digits"], "digits are generated"),
        (["instance_folder", ".", "data.task=depth"], "data.task must be one of"),
    ],
)
def test_mistakes_are_told(capsys, arguments: list[str], message: str) -> None:
    status, _, err = _run(capsys, *arguments)
    assert status == 2 and message in err and err.count("\n") == 1


def test_a_folder_without_splits_says_what_is_missing(tmp_path: Path, capsys) -> None:
    (tmp_path / "classes.txt").write_text(_TWO)
    status, out, err = _run(capsys, "semantic_folder", tmp_path)
    assert status == 1 and "train: cannot be read" in out
    assert "train/images is missing" in err.replace("\\", "/")
