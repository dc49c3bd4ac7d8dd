"""Labels that cannot teach what their classes promise are named, with the value and the reason."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from folder_sets import squares, write_folder
from PIL import Image

from maskformer_ext.config import DataConfig
from maskformer_ext.data import build_dataset
from maskformer_ext.data.findings import Findings, crowding, judge
from maskformer_ext.data.survey import Survey, describe, least_parts, look, shapes

_TWO = "background\nobject\n"
_THREE = "background\nroad\nobject\n"
_CARS = '{"things": ["car"], "stuff": ["background"]}'


def _look(root: Path, name: str, **options) -> tuple[dict[str, Survey], Findings]:
    task = "instance" if name == "instance_folder" else "semantic"
    config = DataConfig(name=name, root=str(root), task=task, **options)
    surveys = {split: look(build_dataset(config, split), split) for split in ("train", "val")}
    return surveys, judge(surveys["train"], surveys["val"], task=task, own=True)


@pytest.mark.parametrize(
    ("classes", "draw", "words"),
    [
        (_TWO, lambda g, s, n: squares(255), ['never hold class 1 "object"', "255", "2.4%", "must hold 0 and 1"]),
        (_TWO, lambda g, s, n: squares(255, 255, 1) * (s == "val"), []),
        (_TWO, lambda g, s, n: np.full((8, 8), 255, np.uint8), ["hold no class", "255, which is void", "100.0%"]),
        ("object\n", lambda g, s, n: squares(255), ['class 0 "object" alone', "255", "name the background"]),
        (_THREE, lambda g, s, n: 255 - squares(254, 255), ['never hold class 2 "object"', "95.1%"]),
    ],
    ids=["0 and 255", "nothing in training", "all void", "one class", "mostly void"],
)
def test_void_in_place_of_a_class_is_a_fault(tmp_path: Path, classes: str, draw, words: list[str]) -> None:
    _, found = _look(write_folder(tmp_path / "data", classes, draw), "semantic_folder")
    assert len(found.faults) == (1 if words else 0)
    assert all(word in found.faults[0] for word in words)


@pytest.mark.parametrize(("value", "warned"), [(255, True), (1, False)])
def test_a_mask_is_known_by_its_value_where_there_is_one_image(tmp_path: Path, value: int, warned: bool) -> None:
    root = write_folder(tmp_path / "data", '{"things": ["cell"]}', lambda g, s, n: squares(value), images=1)
    surveys, found = _look(root, "instance_folder")
    assert surveys["train"].looked == 1 and found.faults == []
    assert ("masks of 0 and 255 join all objects" in str(found.warnings)) == warned


def test_the_void_value_is_that_of_the_files(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", _TWO, lambda g, s, n: squares(1))
    surveys, found = _look(root, "semantic_folder", ignore_label=0)
    assert 'never hold class 2 "object"' in found.faults[0] and "the value 0, which is void, covers 97.6%" in str(found)
    assert "background 2.4%, object 0.0%, void (0) 97.6%" in describe(surveys["train"])


@pytest.mark.parametrize(
    ("draw", "warning"),
    [
        (lambda g, s, n: squares(1), 'never hold class 2 "object" (4 of 4 images looked at)'),
        (lambda g, s, n: squares(1, 255), "255, which is void, covers 2.4% of their pixels: does it mean one of them"),
        (lambda g, s, n: squares(1, 2 * (s == "train")), 'class 2 "object" occurs in train labels, but never in those'),
        (lambda g, s, n: squares(1, 2 * (s == "val")), "of train (4 of 4 images looked at): it is scored, but never"),
        (lambda g, s, n: np.zeros((8, 8), np.uint8), 'every pixel of the training labels is class 0 "background"'),
        (lambda g, s, n: squares(1, 2) if n else np.full((8, 8), 255, np.uint8), "1 train images are void everywhere"),
    ],
)
def test_what_may_be_right_is_a_warning(tmp_path: Path, draw, warning: str) -> None:
    _, found = _look(write_folder(tmp_path / "data", _THREE, draw), "semantic_folder")
    assert not found.faults and any(warning in sentence for sentence in found.warnings)


def test_labels_that_hold_every_class_are_passed_in_silence(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", _THREE, lambda g, s, n: squares(1, 2, 255))
    surveys, found = _look(root, "semantic_folder")
    assert found == Findings()
    assert describe(surveys["val"]).startswith("val labels, 4 of 4 images looked at: background 92.7%, road 2.4%, ")


@pytest.mark.parametrize(
    ("draw", "fault", "warning"),
    [
        (lambda g, s, n: squares(0), "hold no instance (4 of 4 images looked at)", None),
        (lambda g, s, n: squares(255, 255), "its id is always 255 (4 of 4 images looked at): masks of 0 and 255", None),
        (lambda g, s, n: squares(7), None, "its id is always 7"),
        (lambda g, s, n: squares(*[1, 2, 3] * (n == 0)), None, "3 training images hold no instance"),
        (lambda g, s, n: squares(n + 1, n + 2), None, None),
        (lambda g, s, n: squares(n + 1), None, None),
    ],
    ids=["none", "one id for all", "one object", "mostly empty", "several", "one object with ids of its own"],
)
def test_instances_that_are_none_or_one(tmp_path: Path, draw, fault: str | None, warning: str | None) -> None:
    _, found = _look(write_folder(tmp_path / "data", _CARS, draw), "instance_folder")
    for sentences, expected in ((found.faults, fault), (found.warnings, warning)):
        assert len(sentences) == (0 if expected is None else 1)
        assert expected is None or expected in sentences[0]


def test_names_of_strangers_are_printable(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", "back\x1b[31mground\nobject\n", lambda g, s, n: squares(255))
    surveys, found = _look(root, "semantic_folder")
    assert describe(surveys["train"]).isprintable() and found.faults[0].isprintable()


def test_more_instances_than_queries_are_told(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", _CARS, lambda g, s, n: squares(*range(1, 21)))
    survey = _look(root, "instance_folder")[0]["train"]
    assert crowding(survey, 20, 1.0) is None and crowding(survey, 10, 0.5) is None
    assert "up to 20 instances per image (4 of 4 images looked at), but model.num_queries=19" in str(
        crowding(survey, 19, 1.0)
    )
    assert "about 10 in a crop or tile" in str(crowding(survey, 9, 0.5))


def test_a_look_is_bounded_and_goes_on_only_where_too_little_was_seen(tmp_path: Path) -> None:
    order = random.Random(0).sample(range(30), 30)  # in which images are looked at, as sorted by name
    last = int(sorted(map(str, range(30)))[order[-1]])
    plain = write_folder(tmp_path / "plain", _TWO, lambda g, s, n: squares(1), images=30)
    rare = write_folder(tmp_path / "rare", _TWO, lambda g, s, n: squares(n == last), images=30)
    sets = [build_dataset(DataConfig(name="semantic_folder", root=str(root)), "train") for root in (plain, rare)]
    for dataset, looked in zip(sets, (12, 30), strict=True):
        survey = look(dataset, "train", most=3, patience=600.0)
        assert (survey.looked, survey.complete, survey.absent) == (looked, looked == 30, [])
    survey = look(sets[1], "train", most=3, seconds=0.0)
    assert (survey.looked, survey.absent, survey.complete) == (12, [1], False)
    assert survey.extent == "12 of 30 images looked at"
    assert look(sets[0], "train", most=None).looked == 30
    assert shapes(sets[0], most=5) == [(64, 64)] * 5


def test_files_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", _TWO, lambda g, s, n: squares(1))
    for file in (root / "train" / "labels").iterdir():
        file.write_bytes(b"no image")
    survey, found = _look(root, "semantic_folder")
    assert len(survey["train"].problems) == 4 and survey["train"].looked == 0
    assert "no train label can be read" in found.faults[0]


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (["..", ".."], 0),
        (["#.", ".#"], 1),
        (["#.#", "...", "#.#"], 4),
        (["###", "#.#", "###"], 0),  # one part with a hole: the number is a lower bound
        (["##..#", "##..#"], 2),
        (["####", "####"], 1),
    ],
)
def test_parts_of_a_mask_are_counted_from_its_corners(rows: list[str], parts: int) -> None:
    assert least_parts(np.array([[char == "#" for char in row] for row in rows])) == parts


def test_an_annotation_file_without_annotations_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        (tmp_path / f"{split}2017").mkdir()
        images = [{"id": n, "file_name": f"{n}.png", "height": 8, "width": 9} for n in range(3)]
        for image in images:
            Image.new("RGB", (9, 8)).save(tmp_path / f"{split}2017" / str(image["file_name"]))
        content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "person"}]}
        (tmp_path / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    config = DataConfig(name="coco_instance", root=str(tmp_path), task="instance")
    surveys = [look(build_dataset(config, split), split) for split in ("train", "val")]
    found = judge(*surveys, task="instance", own=False)
    assert "the training labels hold no instance (3 of 3 images looked at)" in found.faults[0]
