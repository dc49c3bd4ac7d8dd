"""LabelMe files: shapes, groups, void, embedded images, splits, and files that are damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_formats import SIZE, base64_png, coco_drawings, drawings, labelme, rectangle, save_image, write_labelme

from maskformer_ext.config import DataConfig
from maskformer_ext.data import build_dataset
from maskformer_ext.data.layouts import labelme as layout
from maskformer_ext.data.recognition import load_run_config, recognise
from maskformer_ext.errors import UserError
from maskformer_ext.prepare import main

_FOUND = drawings(6)


def _build(root: Path, split: str = "train", task: str = "instance", **more) -> Any:
    return build_dataset(DataConfig(name="labelme", root=str(root), task=task, **more), split)


def _shape(label: str, points: Any, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def _write(root: Path, shapes: list[Any], **more: Any) -> Path:
    """Write a training image with these shapes, and another image for validation."""
    for split, drawing in zip(("train", "val"), drawings(2), strict=True):
        path = save_image(drawing, root / split, ".png")
        content = labelme(drawing, path.name)
        if split == "train":
            content |= {"shapes": shapes, **more}
        path.with_suffix(".json").write_text(json.dumps(content))
    return root


def _areas(dataset, index: int = 0) -> dict[str, list[int]]:
    """Return the pixels of each segment by its class."""
    sample = dataset[index]
    areas = torch.bincount((sample.segment_map + 1).flatten(), minlength=len(sample.labels) + 1)[1:]
    found: dict[str, list[int]] = {}
    for label, area in zip(sample.labels.tolist(), areas.tolist(), strict=True):
        found.setdefault(dataset.info.classes[label], []).append(area)
    return found


def test_a_folder_without_a_split(tmp_path: Path) -> None:
    root = write_labelme(tmp_path, _FOUND)
    found = recognise(root)
    assert (found.name, found.task) == ("labelme", "instance")
    assert "6 without a split of their own (data.val_share draws one), 2 classes: cat, dog" in found.said
    train, val = _build(root), _build(root, "val")
    assert len(train) + len(val) == 6 and len(val) >= 1 and train.info == val.info
    assert {label: len(areas) for label, areas in _areas(train).items()} == {"cat": 1, "dog": 1}


def test_folders_of_splits_and_of_images(tmp_path: Path) -> None:
    write_labelme(tmp_path / "train", _FOUND[:4])
    for drawing in _FOUND[4:]:
        save_image(drawing, tmp_path / "valid" / "images")
        (tmp_path / "valid" / "json").mkdir(exist_ok=True)
        content = labelme(drawing, f"..\\images\\{drawing.name}.jpg")
        (tmp_path / "valid" / "json" / f"{drawing.name}.json").write_text(json.dumps(content))
    assert "4 for training and 2 for validation" in recognise(tmp_path).said
    assert (len(_build(tmp_path)), len(_build(tmp_path, "val"))) == (4, 2)
    assert _build(tmp_path, "val")[1].size == SIZE


def test_every_shape_with_an_area_counts(tmp_path: Path, caplog) -> None:
    mask = np.zeros((10, 12), np.uint8)
    mask[2:8, 2:10] = 1
    shapes = [
        _shape("box", [[2, 2], [12, 22]], "rectangle"),
        _shape("disc", [[30, 20], [30, 30]], "circle"),
        _shape("blot", [[48, 30], [59, 39]], "mask", mask=base64_png(mask)),
        _shape("way", [[0, 0], [9, 9]], "linestrip"),
        _shape("spot", [[5, 5]], "point"),
    ]
    dataset = _build(_write(tmp_path, shapes))
    areas = _areas(dataset)
    assert areas["blot"] == [48] and abs(areas["box"][0] - 200) <= 32 and abs(areas["disc"][0] - 314) < 30
    assert dataset[0].segment_map[32, 50] == 2 and dataset[0].segment_map[31, 50] == -1
    assert "left out shapes without area, of 2 types (1 linestrip, 1 point)" in " ".join(caplog.messages)
    assert dataset.info.classes == ("blot", "box", "cat", "disc", "dog")


def test_a_group_is_one_object(tmp_path: Path) -> None:
    mask = np.ones((4, 4), np.uint8)
    shapes = [
        _shape("car", [[0, 0], [10, 10]], "rectangle", group_id=1),
        _shape("car", [[20, 0], [24, 4]], "mask", group_id=1, mask=base64_png(mask)),
        _shape("car", [[40, 0], [50, 10]], "rectangle", group_id=2),
        _shape("bus", [[0, 20], [10, 30]], "rectangle", group_id=1),
    ]
    dataset = _build(_write(tmp_path, shapes))
    sample = dataset[0]
    assert sorted(dataset.info.classes[label] for label in sample.labels.tolist()) == ["bus", "car", "car"]
    assert sample.segment_map[5, 5] == sample.segment_map[2, 22] != sample.segment_map[5, 45]


@pytest.mark.parametrize("task", ["instance", "panoptic", "semantic"])
def test_ignored_shapes_are_void(tmp_path: Path, task: str) -> None:
    shapes = [
        _shape("car", [[0, 0], [30, 30]], "rectangle"),
        _shape("__ignore__", [[10, 10], [20, 20]], "rectangle"),
        _shape("_background_", [[22, 22], [27, 27]], "rectangle"),
    ]
    dataset = _build(_write(tmp_path, shapes), task=task)
    sample = dataset[0]
    names = {dataset.info.classes[label] for label in sample.labels.tolist()}
    assert not {"__ignore__", "_background_"} & set(dataset.info.classes)
    assert names == ({"car"} if task == "instance" else {"car", "background"})
    assert sample.segment_map[15, 15] == -1 and sample.segment_map[5, 5] >= 0
    if task != "instance":
        assert dataset.info.classes[sample.labels[sample.segment_map[24, 24]]] == "background"
    assert sample.truth is None or all(one.label < dataset.info.num_classes for one in sample.truth.instances or ())


def test_an_image_inside_the_file(tmp_path: Path) -> None:
    root = _write(tmp_path, [_shape("cat", [[0, 0], [9, 9]], "rectangle")])
    pixels = drawings(1)[0].pixels
    file = root / "train" / "picture_0.json"
    (root / "train" / "picture_0.png").unlink()
    with pytest.raises(UserError, match=r"picture_0\.json: its image picture_0\.png is missing"):
        _build(root)[0]
    content = json.loads(file.read_text()) | {"imageData": base64_png(pixels)}
    file.write_text(json.dumps(content))
    assert torch.equal(_build(root)[0].image, torch.from_numpy(pixels).permute(2, 0, 1))
    with pytest.raises(UserError, match=r'picture_0\.json: "imageData": has 64x48 = 3072 pixels'):
        _build(root, max_pixels=100)[0]
    file.write_text(json.dumps(content | {"imageData": "bm90IGFuIGltYWdl"}))
    with pytest.raises(UserError, match=r'picture_0\.json: "imageData": cannot be read as an image'):
        _build(root)[0]


def test_a_labels_file_orders_the_classes(tmp_path: Path) -> None:
    root = write_labelme(tmp_path, _FOUND)
    (root / "labels.txt").write_text("__ignore__\n_background_\ndog\ncat\n")
    assert _build(root).info.classes == ("dog", "cat")
    (root / "labels.txt").write_text("dog\n")
    with pytest.raises(UserError, match=r"shape \d: the label 'cat' is no class of .*labels\.txt"):
        _build(root)[0]


def test_numbers_in_labels_sort_by_their_value(tmp_path: Path) -> None:
    shapes = [_shape(f"cell {number}", [[0, 0], [9, 9]], "rectangle") for number in (10, 2, 1)]
    assert _build(_write(tmp_path, shapes)).info.classes == ("cat", "cell 1", "cell 2", "cell 10", "dog")


def test_files_are_read_once_for_both_splits(tmp_path: Path, monkeypatch) -> None:
    root = write_labelme(tmp_path, _FOUND)
    real, read = layout.read_labelme, []

    def counting(path: Path, **more: Any) -> Any:
        read.append(path)
        return real(path, **more)

    monkeypatch.setattr(layout, "read_labelme", counting)
    recognise(root)
    _build(root), _build(root, "val")
    assert len(read) <= 2 * len(_FOUND)  # recognition, and both splits together


def test_what_is_left_out_is_said(tmp_path: Path, caplog) -> None:
    root = write_labelme(tmp_path, _FOUND)
    save_image(drawings(1, start=9)[0], root)
    (root / "notes.json").write_text("{}")
    _build(root)
    said = " ".join(caplog.messages)
    assert "left out 1 image without a LabelMe file (picture_9.jpg)" in said
    assert "passed over 1 JSON file that is not LabelMe's (notes.json)" in said


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (_shape("cat", [[0, 0], [9, 9]]), "a polygon must have 3 points [x, y] or more, got 2 points"),
        (_shape("cat", [[0, 0], ["a", 9], [1, 1]]), "a polygon must have 3 points"),
        (_shape("cat", [[0, 0], [float("nan"), 9], [1, 1]]), "a polygon must have 3 points"),
        (_shape("", [[0, 0], [9, 9], [1, 1]]), "has no label"),
        (_shape("cat", [[0, 0], [9, 9]], "cuboid"), "the shape type 'cuboid' is none of polygon, rectangle"),
        (_shape("cat", [[200, 0], [300, 9], [200, 9]]), "lies outside its image: x is 200"),
        (_shape("cat", [[20, 0], [300, 9], [20, 9]]), "reaches far out of its image: x is 300"),
        (_shape("cat", [[0, 0], [9, 9]], "mask", mask="bm90IGFuIGltYWdl"), '"mask": cannot be read as a PNG image'),
        (
            _shape("cat", [[60, 0], [99, 9]], "mask", mask=base64_png(np.ones((4, 9), np.uint8))),
            "lies outside its image",
        ),
        ("cat", "must be an object"),
    ],
)
def test_wrong_shapes_are_named(tmp_path: Path, shape: Any, expected: str) -> None:
    root = _write(tmp_path, [_shape("cat", rectangle_points(0, 0, 9, 9)), shape])
    with pytest.raises(UserError) as caught:
        _build(root)[0]
    assert "picture_0.json, shape 2: " in str(caught.value) and expected in str(caught.value)


def rectangle_points(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    """Return the corners of a rectangle as LabelMe writes them."""
    values = rectangle(left, top, right, bottom)
    return [list(point) for point in zip(values[::2], values[1::2], strict=True)]


def test_a_size_that_is_not_the_images(tmp_path: Path) -> None:
    root = _write(tmp_path, [], imageHeight=SIZE[1], imageWidth=SIZE[0])
    with pytest.raises(UserError, match=r"is 64x48 pixels, but .*picture_0\.json says 48x64\. One of them is turned"):
        _build(root)[0]


def test_a_file_cut_in_half(tmp_path: Path, capsys) -> None:
    root = write_labelme(tmp_path, _FOUND)
    file = root / "picture_0.json"
    file.write_text(file.read_text()[:200])
    with pytest.raises(UserError, match=r"picture_0\.json is not a LabelMe file: it is not valid JSON"):
        [_build(root, split) for split in ("train", "val")]
    both = [_build(root, split, on_error="skip") for split in ("train", "val")]
    assert sum(map(len, both)) == 5 and "not valid JSON" in "".join(both[0].problems + both[1].problems)
    assert main([str(root), "workers=0"]) == 1
    err = capsys.readouterr().err
    assert "picture_0.json is not a LabelMe file" in err and "Traceback" not in err


@pytest.mark.skipif("MASKFORMER_EXT_DATA" not in os.environ, reason="MASKFORMER_EXT_DATA is not set")
def test_real_photos(tmp_path: Path, capsys) -> None:
    write_labelme(tmp_path, list(coco_drawings(Path(os.environ["MASKFORMER_EXT_DATA"]) / "coco_tiny", "train")))
    config, _ = load_run_config("folder", [f"data.root={tmp_path}"])
    assert config.data.name == "labelme" and config.data.task == "instance"
    assert main([str(tmp_path), "workers=0"]) == 0 and "ready: " in capsys.readouterr().out
