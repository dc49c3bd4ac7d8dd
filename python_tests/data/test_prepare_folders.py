"""``prepare`` on folders of the user's own: classes with counts, sizes, void, and what cannot be learnt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from folder_sets import squares, write_folder
from PIL import Image

from maskformer_ext.data.preparing.duplicates import find_duplicates
from maskformer_ext.prepare import main

_TWO = "background\nobject\n"
_CARS = '{"things": ["car"], "stuff": ["background"]}'


def _run(capsys, *arguments) -> tuple[int, str, str]:
    sheet = [] if any(str(argument).startswith("sheet=") for argument in arguments) else ["sheet=none"]
    status = main([*map(str, arguments), "workers=0", *sheet])
    return status, *capsys.readouterr()


@pytest.mark.parametrize("form", [["semantic_folder", "{root}"], ["config=semantic_folder", "data.root={root}"]])
def test_a_folder_is_described(tmp_path: Path, capsys, form: list[str]) -> None:
    def draw(generator: np.random.Generator, split: str, number: int) -> np.ndarray:
        return squares(1, 255, shape=(40, 60)) if number else np.full((80, 50), 255, np.uint8)

    root = write_folder(tmp_path / "data", _TWO, draw)
    status, out, err = _run(capsys, *(part.format(root=root) for part in form))
    assert status == 0 and f"ready: data.name=semantic_folder data.root={root}" in out.splitlines()
    assert out.endswith(f"next:\n  maskformer-ext train config=semantic_folder data.root={root}\n")
    words = " ".join(out.split())
    assert "train: 4 of 4 images looked at, from 60x40 to 50x80 pixels, median shorter side 40" in words
    assert "id class pixels images 0 background 58.9% 3 1 object 2.7% 3 255 void 38.4%" in words
    assert "1 void everywhere: 0" in out
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
    words = " ".join(out.split())
    assert "instances per image: median 2, at most 3" in words and "car 3.7% 3 6" in words
    status, out, _ = _run(capsys, "instance_folder", root, "data.task=panoptic", "split=train")
    assert status == 0 and "1 without instance: 0" in out and "val:" not in out


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
        (["semantic_folder"], "semantic_folder is a data set: give its folder too"),
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


def test_a_folder_alone_is_enough(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_folder(Path("camvid"), _TWO, lambda g, s, n: squares(1))  # the name of a data set, but a folder here
    status, out, _ = _run(capsys, root)
    assert status == 0 and out.startswith("camvid: images with one label image each, 4 for training and 4")


def test_images_that_occur_twice_are_named(tmp_path: Path, capsys) -> None:
    root = write_folder(tmp_path / "data", _TWO, lambda g, s, n: squares(1))
    images = root / "train" / "images"
    shutil.copyfile(images / "0.png", images / "1.png")
    shutil.copyfile(images / "2.png", root / "val" / "images" / "3.png")
    status, _, err = _run(capsys, "semantic_folder", root)
    assert status == 0
    assert (
        f"warning: 1 image is in both splits, so that scores say less than they seem to: {images / '2.png'} = " in err
    )
    assert f"warning: 1 image is twice in a split: {images / '0.png'} = {images / '1.png'}" in err


def test_copies_are_counted(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path in paths:
        path.write_text("the same")
    shared, within = find_duplicates({"train": paths[:4], "val": paths[4:]})
    assert shared.endswith(f"{paths[0]} = {paths[1]} and 3 more")
    assert within == f"1 image is more than once in a split: {paths[0]} = {paths[1]} and 2 more"
    shared, within = find_duplicates({"train": paths[:1], "val": paths[1:3]})
    assert within == f"1 image is twice in a split: {paths[1]} = {paths[2]}"


def test_what_looks_like_a_slip_is_named(tmp_path: Path, capsys) -> None:
    def draw(generator: np.random.Generator, split: str, number: int) -> np.ndarray:
        label = squares(1, 2)
        label[60, 60:62] = 3 if number == 0 else 0
        return label

    root = write_folder(tmp_path / "data", _CARS, draw)
    Image.new("RGB", (64, 64), (9, 9, 9)).save(root / "train" / "images" / "3.png")
    _, _, err = _run(capsys, "instance_folder", root)
    assert "warning: train: 1 of 9 instances have fewer than 4 pixels, which may be slips" in err
    assert "warning: train: 1 of one colour: 3" in err


def test_the_contact_sheet_shows_every_class_and_what_training_sees(tmp_path: Path, capsys) -> None:
    def draw(generator: np.random.Generator, split: str, number: int) -> np.ndarray:
        return squares(2 if number == 37 else 1)

    root = write_folder(tmp_path / "data", "ground\nblue\ngreen\n", draw, images=40)
    (root / "classes.txt").unlink()
    colors = [[90, 90, 90], [0, 0, 255], [0, 255, 0]]
    (root / "classes.json").write_text(json.dumps({"classes": ["ground", "blue", "green"], "colors": colors}))
    sheet = tmp_path / "sheet.png"
    status, out, _ = _run(capsys, "semantic_folder", root, f"sheet={sheet}")
    assert status == 0 and f"look at {sheet}" in out
    with Image.open(sheet) as opened:
        pixels = np.asarray(opened).astype(int)
    assert pixels.shape[1] == 1596 and pixels.shape[0] > 1500  # 8 labelled, 8 augmented, 4 of validation
    rows = [pixels[44:700], pixels[744:1350]]  # labelled, augmented
    for part in rows:  # one of 40 images has the rare class, and it is drawn in both
        green = (part[..., 1] > part[..., 0] + 60) & (part[..., 1] > part[..., 2] + 60)
        assert green.sum() > 300


def test_a_sheet_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, capsys) -> None:
    root = write_folder(tmp_path / "data", _TWO, lambda g, s, n: squares(1))
    for sheet, message in ((tmp_path / "no" / "a.png", "does not exist"), (tmp_path / "a.gif", "ends in .png")):
        status, out, err = _run(capsys, "semantic_folder", root, f"sheet={sheet}")
        assert status == 2 and message in err and out == ""
