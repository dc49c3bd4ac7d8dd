"""Overlays and files of results, in Python and as `predict` writes them."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from paint import THINGS, PaintModel, paint, scene
from painted_results import PAINTED, TASKS, painted
from PIL import Image

from maskformer_ext.errors import UserError
from maskformer_ext.inference import segment
from maskformer_ext.prediction.result_files import write_prediction


def _file(folder: Path, name: str = "photo.png", seed: int = 0) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(paint(*scene((40, 56), things=4, seed=seed))).save(path)
    return path


def _segment(image, task: str = "panoptic"):
    return segment(PaintModel(3), image, task=task, thing_classes=THINGS, info=PAINTED)


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_the_classes_are_drawn_where_they_are() -> None:
    result, segments, _ = painted("semantic", things=4)
    picture = np.asarray(result.plot(names=False, legend=False, alpha=1, size=56))
    assert picture.shape == (40, 56, 3)
    inside = segments == 1
    inside[1:-1, 1:-1] &= inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    inside[[0, -1]] = inside[:, [0, -1]] = False
    assert (picture[inside] == PAINTED.colors[0]).all()


def test_options_change_the_picture() -> None:
    result, _, _ = painted("instance", (80, 112), things=3)
    plain = np.asarray(result.plot(names=False, legend=False))
    assert plain.shape == (480, 672, 3)  # enlarged to about 512 pixels
    assert result.plot().height > 480 and not np.array_equal(result.plot(legend=False), plain)
    assert result.plot(size=100, legend=False).size == (100, 71)
    assert not np.array_equal(result.plot(names=False, legend=False, min_score=0), plain)
    untouched = np.asarray(result.plot(names=False, legend=False, min_score=1))
    expected = np.asarray(Image.fromarray(result.image).resize((672, 480), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(untouched, expected)
    white = result.plot(image=np.full((20, 28, 3), 255, np.uint8), min_score=1, names=False, legend=False)
    assert np.asarray(white).min() == 255


@pytest.mark.parametrize("form", ["array", "grey", "tensor", "picture", "path"])
def test_every_form_of_an_image_is_drawn_on(form: str, tmp_path: Path) -> None:
    array = paint(*scene((40, 56), things=4))
    expected = np.asarray(_segment(array).plot())
    if form == "grey":
        assert _segment(np.zeros((40, 56), np.uint8)).plot().mode == "RGB"
        return
    forms = {
        "array": np.asfortranarray(array),
        "tensor": torch.from_numpy(array).permute(2, 0, 1),
        "picture": Image.fromarray(array),
        "path": _file(tmp_path),
    }
    np.testing.assert_array_equal(np.asarray(_segment(forms[form]).plot()), expected)


def test_a_file_is_read_again_when_it_is_needed(tmp_path: Path) -> None:
    path = _file(tmp_path)
    result = _segment(path)
    assert result.image == path and result.plot().width >= 56
    path.unlink()
    with pytest.raises(UserError, match=re.escape(str(path))):
        result.plot()
    assert result._repr_png_() is None and "No picture: " in result._repr_html_()
    assert len(result.to_coco()) == len(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha must lie between 0 and 1, got 1.5"),
        ({"min_score": 50}, "min_score must lie between 0 and 1, got 50"),
        ({"size": -1}, "size must be a number of pixels, or 0 for no limit, got -1"),
        ({"size": (3, 4)}, r"size must be a number of pixels, or 0 for no limit, got \(3, 4\)"),
    ],
)
def test_options_out_of_range_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        painted("panoptic")[0].plot(**options)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_an_overlay_is_one_picture(ending: str, tmp_path: Path) -> None:
    result, _, _ = painted("panoptic")
    path = result.save(tmp_path / "new" / f"overlay{ending}", legend=False, size=300)
    assert path == tmp_path / "new" / f"overlay{ending}" and [p.name for p in path.parent.iterdir()] == [path.name]
    difference = np.abs(_read(path).astype(int) - np.asarray(result.plot(legend=False, size=300)))
    assert difference.max() == 0 if ending == ".png" else difference.mean() < 8


def test_other_endings_are_refused(tmp_path: Path) -> None:
    result, _, _ = painted("panoptic")
    with pytest.raises(ValueError, match=r"must be a folder or a picture such as out\.png, got the ending \.txt"):
        result.save(tmp_path / "out.txt")
    assert not list(tmp_path.iterdir())
    (tmp_path / "a.txt").mkdir()  # a folder, whatever its name
    assert result.save(tmp_path / "a.txt") == tmp_path / "a.txt" / "overlays" / "image.png"


@pytest.mark.parametrize("task", TASKS)
def test_a_folder_is_what_predict_writes(task: str, tmp_path: Path) -> None:
    path = _file(tmp_path)
    result = _segment(path, task)
    assert result.save(tmp_path / "saved") == tmp_path / "saved" / "overlays" / "photo.png"
    rgb = _read(path)
    write_prediction(result, rgb, tmp_path / "predicted", "photo", source=str(path), info=PAINTED)
    files = ["overlays/photo.png", "ids/photo.png", "json/photo.json"]
    for file in files:
        assert (tmp_path / "saved" / file).read_bytes() == (tmp_path / "predicted" / file).read_bytes()
    assert sum(p.is_file() for p in (tmp_path / "saved").rglob("*")) == 3
    described = json.loads((tmp_path / "saved" / "json" / "photo.json").read_text())
    ids = _read(tmp_path / "saved" / "ids" / "photo.png")
    assert described["image"] == str(path) and described["task"] == task and described["height"] == 40
    for entry, part in zip(described["segments"], result, strict=True):
        assert entry["id"] == part.id and entry["category"] == part.name and entry["area"] == part.area
        if task != "instance":
            np.testing.assert_array_equal(ids == part.id, part.mask)


def test_results_of_another_image_are_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _segment([_file(tmp_path, "a/x.png"), _file(tmp_path, "b/x.png", seed=1)])
    first.save(tmp_path / "out")
    first.save(tmp_path / "out")
    before = (tmp_path / "out" / "overlays" / "x.png").read_bytes()
    with pytest.raises(UserError, match=r"belongs to another image, .*a/x.png, and not to .*b/x.png: give name="):
        second.save(tmp_path / "out")
    assert (tmp_path / "out" / "overlays" / "x.png").read_bytes() == before
    second.save(tmp_path / "out", name="b/x")
    assert (tmp_path / "out" / "json" / "b" / "x.json").is_file()
    monkeypatch.chdir(tmp_path)
    _segment("a/x.png").save("out")  # the same file by another path


def test_images_without_a_file_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for _ in range(3):  # as in a loop over frames
        result = _segment(np.zeros((40, 56, 3), np.uint8))
        result.save(tmp_path / "out")
        result.to_yolo(tmp_path / "labels")
    for result in _segment([np.zeros((40, 56, 3), np.uint8)] * 2):
        result.save(tmp_path / "out")
    names = [path.stem for path in sorted((tmp_path / "out" / "overlays").iterdir())]
    assert names == ["image", *(f"image_{number:06d}" for number in (0, 1, 2, 3))]
    assert json.loads((tmp_path / "out" / "json" / "image_000002.json").read_text())["image"] == "image_000002"
    assert sorted(path.stem for path in (tmp_path / "labels").iterdir()) == ["image", "image_000001", "image_000002"]
    first = _segment(np.zeros((40, 56, 3), np.uint8)).save(tmp_path / "out", name="frame")
    assert _segment(np.ones((40, 56, 3), np.uint8)).save(tmp_path / "out", name="frame") == first  # was asked for


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="taken"):
        painted("panoptic")[0].save(tmp_path / "taken" / "out.png")


def test_more_segments_than_a_map_can_number_are_an_error(tmp_path: Path) -> None:
    result, _, _ = painted("panoptic")
    ids = result.segment_map.clone()
    ids[0, 0] = 70_000
    result = replace(result, segment_map=ids)
    with pytest.raises(UserError, match="70000 segments are more than a 16-bit PNG can number"):
        result.save(tmp_path)


@pytest.mark.parametrize("task", TASKS)
def test_notebooks_show_the_picture_and_a_table(task: str) -> None:
    result, _, _ = painted(task)
    shown = result._repr_png_()
    assert shown is not None
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(shown))), np.asarray(result.plot(size=1024)))
    page = result._repr_html_()
    embedded = re.search(r'src="data:image/png;base64,([^"]+)"', page)
    assert embedded is not None and base64.b64decode(embedded[1]) == shown
    likely = [part for part in result if part.score is None or part.score >= 0.5]
    assert page.count("<tr><td>") == len(likely) and f"<td>{likely[0].area}</td>" in page
