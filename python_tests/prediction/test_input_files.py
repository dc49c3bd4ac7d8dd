"""Which files `predict` takes for inputs: folders, links, globs, names, and what it has written itself."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from maskformer_ext.errors import UserError
from maskformer_ext.prediction.input_files import list_files
from maskformer_ext.prediction.output_folder import EarlierResults, note_settings

SETTINGS = {"checkpoint": "run", "task": "semantic", "min_score": 0.5, "inference": {"betas": (1, 2)}}


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def find_files(source: str, output: Path | None = None) -> list[tuple[Path, str]]:
    return [(place, name) for place, name in list_files(source, output).files if isinstance(place, Path)]


def _names(source: str | Path, output: Path | None = None) -> list[str]:
    return [name for _, name in find_files(str(source), output)]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    photos = _touch(tmp_path / "photos", "a.jpg", "real/b.jpg")
    _touch(tmp_path / "elsewhere", "c.jpg", "deep/d.jpg")
    (photos / "also").symlink_to("real")
    (photos / "linked").symlink_to("../elsewhere")
    (photos / "linked again").symlink_to("../elsewhere")
    (photos / "real" / "up").symlink_to("../../photos")  # a circle
    (photos / "gone.jpg").symlink_to("nowhere.jpg")
    expected = ["a", "linked/c", "linked/deep/d", "real/b"]
    listing = list_files(str(photos))
    assert [name for _, name in listing.files] == expected
    assert listing.note() == f"passed over: 1 that could not be listed ({photos / 'gone.jpg'})"
    assert _names(f"{photos}/**/*.jpg") == [name.rpartition("/")[2] for name in expected]
    assert _names(f"{photos}/**/deep/*") == ["d"]


def test_results_are_never_inputs(tmp_path: Path) -> None:
    photos = _touch(tmp_path / "photos", "a.jpg", "sub/b.png", "ids/mine.png")
    assert _names(photos) == ["a", "ids/mine", "sub/b"]  # a folder of this name alone says nothing
    for output in (photos / "out", photos / "sub" / "earlier"):
        _touch(output, "overlays/a.png", "overlays/clip.mp4", "ids/sub/b.png", "queries/a.png", "queries.png")
        note_settings(output, SETTINGS, resume=False)
    assert _names(photos) == ["a", "ids/mine", "sub/b"]
    assert _names(f"{photos}/**/*.png") == ["mine", "b"]
    note = list_files(str(photos)).note()
    assert note is not None and "10 earlier results of predict" in note and "settings.json" in note
    for source in ("out/overlays", "out/overlays/*.png"):
        with pytest.raises(UserError, match="earlier results of predict"):
            find_files(str(photos / source))
    with pytest.raises(UserError, match="is a result of predict"):
        find_files(str(photos / "out" / "overlays" / "a.png"))
    (photos / "link").symlink_to("out/overlays")
    (photos / "link.png").symlink_to("out/overlays/a.png")
    assert _names(photos) == ["a", "ids/mine", "sub/b"]


def test_the_output_may_be_the_input_folder(tmp_path: Path) -> None:
    photos = _touch(tmp_path, "a.jpg", "overlays/a.png", "ids/a.png", "json/a.json", "queries.png")
    note_settings(photos, SETTINGS, resume=False)
    assert _names(photos, photos) == ["a"]
    (photos / "settings.json").write_text("{")  # damaged
    assert _names(photos, photos) == ["a"]


def test_results_do_not_overwrite_inputs(tmp_path: Path) -> None:
    photos = _touch(tmp_path, "a.jpg", "ids/a.png")
    with pytest.raises(UserError, match=r"results of .*a\.jpg would overwrite the input .*ids/a\.png"):
        find_files(str(photos), photos)
    assert _names(photos, tmp_path / "out") == ["a", "ids/a"]


def test_a_foreign_settings_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"theme": "dark"}')
    with pytest.raises(UserError, match="is not a file of predict"):
        note_settings(tmp_path, SETTINGS, resume=False)
    assert json.loads((tmp_path / "settings.json").read_text()) == {"theme": "dark"}
    assert tmp_path / "overlays" / "a.png" not in EarlierResults()


@pytest.mark.parametrize("text", ["", "{", "\0\0", "[" * 100_000])
def test_damaged_settings_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(UserError, match=r"resume=true: .*settings\.json .*resume=false"):
        note_settings(tmp_path, SETTINGS, resume=True)
    note_settings(tmp_path, SETTINGS, resume=False)
    note_settings(tmp_path, SETTINGS, resume=True)
    with pytest.raises(UserError, match="holds results of another task"):
        note_settings(tmp_path, {**SETTINGS, "task": "panoptic"}, resume=True)
    note_settings(tmp_path, {**SETTINGS, "overlay_size": 30}, resume=True)  # an earlier version did not note it
    with pytest.raises(UserError, match="results of another overlay_size"):
        note_settings(tmp_path, {**SETTINGS, "overlay_size": 2048}, resume=True)


def test_what_is_passed_over_is_counted_and_named(tmp_path: Path) -> None:
    photos = _touch(tmp_path, "a.HEIC", "b.avif", ".hidden.png", ".cache/c.png", "~$d.jpg", "e.txt", "f.txt")
    listing = list_files(str(photos))
    assert [name for _, name in listing.files] == ["a", "b"]
    note = listing.note()
    assert note is not None and "\n" not in note
    assert "3 hidden or temporary (" in note and "2 no image or video by their ending (" in note


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a.jpg", "a.png", "b.png"], ["a.jpg", "a.png", "b"]),
        (["a.jpg", "a.jpg.png", "a.png"], ["a.jpg", "a.jpg.png", "a.png"]),
        (["day/0.png", "night/0.png"], ["day/0", "night/0"]),
        (["clip.png", "clip/000000.png"], ["clip/000000", "clip"]),  # no video
    ],
)
def test_names_tell_files_apart(tmp_path: Path, files: list[str], names: list[str]) -> None:
    assert _names(_touch(tmp_path, *files)) == names


def test_files_of_one_name_in_a_glob_keep_their_folders(tmp_path: Path) -> None:
    _touch(tmp_path, "day/0.png", "night/0.png", "night/1.png", "night/0.jpg")
    assert _names(f"{tmp_path}/*/*") == ["day/0", "0.jpg", "night/0", "1"]


@pytest.mark.parametrize("files", [("clip.mp4", "clip/000000.png"), ("a.jpg", "a.png/b.jpg")])
def test_files_that_would_share_a_result_are_both_named(tmp_path: Path, files: tuple[str, str]) -> None:
    with pytest.raises(UserError, match="would both have the results") as caught:
        find_files(str(_touch(tmp_path, *files)))
    assert all(str(tmp_path / file) in str(caught.value) for file in files)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")
def test_names_that_are_no_utf8_are_listed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).touch()
    assert _names(tmp_path) == [os.fsdecode(b"caf\xe9")]
    (tmp_path / os.fsdecode(b".\xff.png")).touch()
    assert "\\xff" in str(list_files(str(tmp_path)).note())


def test_every_folder_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = _touch(tmp_path, *(f"day {number % 3}/{number}.jpg" for number in range(300)))
    looked: list[Path] = []
    is_file = Path.is_file

    def watched(path: Path) -> bool:
        looked.append(path)
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", watched)
    assert len(find_files(str(photos))) == 300
    assert len(looked) < 50


@pytest.mark.parametrize("source", ["x" * 300, "\0", "~nobody_of_this_name/a"])
def test_impossible_names_are_told_in_one_sentence(source: str) -> None:
    with pytest.raises(UserError, match="input="):
        find_files(source)
