"""Which files below a folder are found: links, endings, accents, hidden files; and what is said of the others."""

from __future__ import annotations

import os
import unicodedata

import numpy as np
import pytest
from public_layouts import SIZE, cityscapes, photograph, rows, save

from maskformer_ext.config import DataConfig
from maskformer_ext.data import build_dataset
from maskformer_ext.data.listing import check_below, find_file, list_files
from maskformer_ext.data.readers.pairs import pair_files
from maskformer_ext.errors import UserError


def _pair(root, name, *, ending=".png"):
    photograph(root / "images" / f"{name}{ending}")
    save(root / "labels" / f"{name}.png", np.zeros(SIZE, np.uint8))


def _names(root):
    pairs, problems = pair_files(root / "images", root / "labels")
    assert problems == []
    return [name for name, _, _ in pairs]


def test_linked_folders_are_followed(tmp_path):
    for number in range(6):
        _pair(tmp_path / "elsewhere", f"part{number}/a")
        for kind in ("images", "labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / f"part{number}").symlink_to(tmp_path / "elsewhere" / kind / f"part{number}")
    _pair(tmp_path, "own")
    assert _names(tmp_path) == ["own", *[f"part{number}/a" for number in range(6)]]


def test_links_in_a_circle_end_and_a_folder_is_read_once(tmp_path, caplog):
    _pair(tmp_path, "day/a")
    for kind in ("images", "labels"):
        (tmp_path / kind / "a_link_to_day").symlink_to("day")  # which comes before the folder itself
        (tmp_path / kind / "day" / "around").symlink_to("..")
        (tmp_path / kind / "self").symlink_to("self")  # leads nowhere
    assert _names(tmp_path) == ["day/a"]
    assert "2 linked to a folder that is read already (a_link_to_day, day/around)" in caplog.messages[0]
    assert "1 no file, or a broken link (self)" in caplog.messages[0]


def test_endings_in_capitals_and_all_that_can_be_read(tmp_path):
    _pair(tmp_path, "a", ending=".PNG")
    _pair(tmp_path, "b", ending=".JPeG")
    (tmp_path / "labels/b.png").rename(tmp_path / "labels/b.PNG")
    for name, ending in (("c", ".avif"), ("d", ".heic"), ("e", ".HIF"), ("f", ".jfif")):
        _pair(tmp_path, name)
        (tmp_path / f"images/{name}.png").rename(tmp_path / f"images/{name}{ending}")
    assert _names(tmp_path) == list("abcdef")


def test_endings_of_cityscapes_in_capitals(tmp_path):
    cityscapes(tmp_path, rows(7))
    for path in [path for path in tmp_path.rglob("*.png")]:
        path.rename(path.with_name(path.name.replace(".png", ".PNG").replace("leftImg8bit", "LEFTIMG8BIT")))
    dataset = build_dataset(DataConfig(name="cityscapes", root=str(tmp_path)), "train")
    assert dataset[0].name == "aachen/aachen_000000_000019" and dataset[0].labels.tolist() == [0]


def test_accents_in_either_form_make_a_pair(tmp_path):
    name = "caf\u00e9/\u00fcber"
    photograph(tmp_path / "images" / unicodedata.normalize("NFD", f"{name}.jpg"))
    save(tmp_path / "labels" / f"{name}.png", np.zeros(SIZE, np.uint8))
    assert _names(tmp_path) == [name]
    assert find_file(tmp_path / "images", f"{name}.jpg").is_file()


def test_what_is_passed_over_is_counted_and_named(tmp_path, caplog):
    _pair(tmp_path, "a")
    for name in ("notes.txt", "b.cr2", ".DS_Store", ".cache/x.png", "c.d", "d.e", "e.f", "ends\x1b[31m.f"):
        path = tmp_path / "images" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert _names(tmp_path) == ["a"]
    (message,) = caplog.messages
    assert message.startswith(f"passed over in {tmp_path}/images: ")
    assert "2 hidden (.cache/, .DS_Store)" in message and "\x1b" not in message
    assert "6 with an ending that is not read here (b.cr2, c.d, d.e, e.f and 2 more)" in message


def test_nothing_is_said_where_all_is_read(tmp_path, caplog):
    _pair(tmp_path, "a")
    assert _names(tmp_path) == ["a"] and caplog.messages == []


def test_labels_of_a_lossy_format_are_pointed_at(tmp_path):
    _pair(tmp_path, "day/a")
    (tmp_path / "labels/day/a.png").rename(tmp_path / "labels/day/a.jpg")
    _, problems = pair_files(tmp_path / "images", tmp_path / "labels")
    assert f"({tmp_path}/labels/day/a.jpg is there, but labels must be PNG, TIFF, BMP or PGM)." in problems[0]


def test_names_that_are_no_text_are_read(tmp_path):
    _pair(tmp_path, os.fsdecode(b"caf\xe9"))
    (name,) = _names(tmp_path)
    assert os.fsencode(name) == b"caf\xe9"


def test_folders_that_are_missing_are_named(tmp_path):
    with pytest.raises(UserError, match=r"the folder .*none is missing"):
        list_files(tmp_path / "none", (".png",))


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.png", "a/../../b.png", "", ".", "..", "a\0b", "C:\\a", "..\\a", "\\a"]
)
def test_names_that_lead_out_of_a_folder_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="must be a path below"):
        check_below(name, tmp_path)


@pytest.mark.parametrize("name", ["a.png", "1:30.png", "day/a.png", "./a.png", "a..b.png", "...a", "a b/c"])
def test_names_below_a_folder_are_taken(tmp_path, name):
    check_below(name, tmp_path)
    assert find_file(tmp_path, name) == tmp_path / name


def test_names_that_no_file_can_have_are_missing(tmp_path):
    assert not os.path.isfile(find_file(tmp_path, "a" * 5000))
