"""Classes files: what they may hold, and the sentence for each mistake."""

from __future__ import annotations

import json

import pytest

from maskformer_ext.data.classes import palette, read_classes_file, void_id
from maskformer_ext.errors import UserError


def _write(folder, content, name="classes.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_text_file_holds_one_name_a_line(tmp_path):
    table = read_classes_file(_write(tmp_path, "cat\n\n  big dog \n", "classes.txt"))
    assert table.classes == ("cat", "big dog") and table.colors == palette(2) and table.things == (0, 1)


def test_things_and_stuff_make_the_classes(tmp_path):
    table = read_classes_file(_write(tmp_path, {"things": ["cell"], "stuff": ["background"]}))
    assert table.classes == ("cell", "background") and table.things == (0,) and table.background == 1


def test_everything_given(tmp_path):
    content = {
        "classes": ["road", "car", "person"],
        "colors": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        "things": ["person", "car"],
        "id_divisor": 1000,
        "ignore_label": 250,
    }
    table = read_classes_file(_write(tmp_path, content))
    assert set(table.things) == {1, 2} and table.colors[1] == (4, 5, 6)
    assert table.id_divisor == 1000 and table.ignore_label == 250
    assert table.background is None  # with id_divisor, 0 means a class only if the file says so


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "not a valid classes file"),
        ("3", "must hold a JSON object"),
        ({}, "names no class"),
        ({"classes": ["a", "a"]}, "names the class 'a' twice"),
        ({"classes": "ab"}, '"classes" must be a list of names'),
        ({"classes": ["a"], "things": ["b"]}, "\"things\" names 'b'"),
        ({"classes": ["a"], "background": "a"}, '"background" must be a stuff class'),
        ({"classes": ["a"], "colours": []}, "unknown key 'colours'"),
        ({"classes": ["a"], "colors": [[1, 2]]}, '"colors" must be a list of 1'),
        ({"classes": ["a"], "id_divisor": -1}, '"id_divisor" must be a whole number'),
    ],
)
def test_mistakes_are_named(tmp_path, content, sentence):
    path = _write(tmp_path, content)
    with pytest.raises(UserError) as error:
        read_classes_file(path)
    assert sentence in str(error.value) and str(path) in str(error.value)


def test_marks_of_windows_editors_are_no_names_and_numbers_are_no_text(tmp_path):
    (tmp_path / "classes.txt").write_text("\ufeffroad\ncar\n", encoding="utf-8")
    assert read_classes_file(tmp_path / "classes.txt").classes == ("road", "car")
    (tmp_path / "classes.json").write_text('["road", 5, "car"]')
    with pytest.raises(UserError, match=r'classes\.json: "classes" must be a list of names'):
        read_classes_file(tmp_path / "classes.json")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"classes\.json is missing"):
        read_classes_file(tmp_path / "classes.json")


@pytest.mark.parametrize(
    ("value", "count", "expected"), [(0, 3, 255), (0, 256, 65535), (250, 3, 250), (65535, 9, 65535)]
)
def test_void_of_class_ids_is_no_class(value, count, expected):
    assert void_id(value, count) == expected


def test_palette_colours_differ():
    assert len(set(palette(150))) == 150
