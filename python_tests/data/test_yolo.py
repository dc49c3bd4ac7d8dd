"""YOLO-seg data sets: what ultralytics, Roboflow and Label Studio write, and the mistakes that people make in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from own_formats import SIZE, coco_drawings, drawings, save_image, write_yolo

from maskformer_ext.config import DataConfig
from maskformer_ext.data import build_dataset
from maskformer_ext.data.formats.yolo_labels import read_yolo
from maskformer_ext.data.recognition import load_run_config, recognise
from maskformer_ext.data.types import Sample
from maskformer_ext.errors import UserError
from maskformer_ext.prepare import main

_NAMES = ("cat", "dog")
_TRAIN, _VAL = drawings(4), drawings(2, start=4)


def _build(root: Path, split: str = "train", task: str = "instance", **more) -> Any:
    return build_dataset(DataConfig(name="yolo", root=str(root), task=task, **more), split)


def _labels(dataset, index: int = 0) -> list[str]:
    return sorted(dataset.info.classes[label] for label in dataset[index].labels.tolist())


def _check(sample: Sample) -> None:
    """Check that the segments are the squares of `drawings`."""
    assert tuple(sample.segment_map.shape) == SIZE and len(sample.labels) == 2
    areas = torch.bincount((sample.segment_map + 1).flatten())
    assert (areas[1:] - 20 * 24).abs().max() <= 50
    assert sample.segment_map[20, 10] != sample.segment_map[20, 40] and sample.segment_map[20, 29] == -1


@pytest.mark.parametrize(
    ("folder", "yaml"),
    [
        ("{split}/{part}", "train: ../train/images\nval: ../val/images\n\nnc: {count}\nnames: {names}\n"),
        ("{part}/{split}", "path: ../datasets/pets\ntrain: images/train\nval: images/val\nnames: {{0: cat, 1: dog}}\n"),
        ("{part}/{split}", "path: .\ntrain: [images/train]\nval: images/val\ntest:\nnames:\n- cat\n- dog\n"),
        ("{split}/{part}", "train: train\\images\nval: C:\\Users\\me\\pets\\val\\images\nnames: {names}\n"),
        ("{split}/{part}", "names: {names}\n"),
        ("{part}/{split}", None),
    ],
)
def test_layouts_that_tools_write(tmp_path: Path, folder: str, yaml: str | None) -> None:
    root = write_yolo(tmp_path / "pets", {"train": _TRAIN, "val": _VAL}, _NAMES, yaml=yaml, folder=folder)
    if yaml is None:
        (root / "classes.txt").write_text("cat\ndog\n")
    found = recognise(root)
    assert (found.name, found.task) == ("yolo", "instance")
    assert "4 images for training and 2 for validation, 2 classes: cat, dog" in found.said
    train, val = _build(root), _build(root, "val")
    assert (len(train), len(val)) == (4, 2) and train.info == val.info
    assert train.info.classes == _NAMES and train.info.thing_classes == (0, 1)
    assert _labels(train) == ["cat", "dog"] and train[0].name == "picture_0"
    _check(train[0])


def test_tasks(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {"train": _TRAIN, "valid": _VAL}, _NAMES)
    semantic = _build(root, task="semantic")
    assert semantic.info.classes == (*_NAMES, "background") and (semantic[0].segment_map >= 0).all()
    panoptic = _build(root, task="panoptic", background="")
    assert panoptic.info.classes == _NAMES and (panoptic[0].segment_map == -1).any()


def test_lists_of_images(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {"": _TRAIN}, _NAMES, yaml=None, folder="{part}/{split}")
    (root / "train.txt").write_text("./images/picture_0.jpg\r\n\r\nimages/picture_1.jpg\r\n")
    (root / "val.txt").write_text("/home/me/pets/images/picture_2.jpg\n")
    (root / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [cat, dog]\n")
    assert [len(_build(root, split)) for split in ("train", "val")] == [2, 1]
    (root / "val.txt").write_text("images/picture_2.jpg\nimages/picture_9.jpg\n")
    with pytest.raises(UserError, match=r"val\.txt, line 2: the image images/picture_9\.jpg is missing"):
        _build(root, "val")


def test_lists_as_cvat_writes_them(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {"train": _TRAIN}, _NAMES, yaml=None, folder="{part}/{split}")
    (root / "train.txt").write_text("".join(f"data/images/train/picture_{number}.jpg\n" for number in range(4)))
    (root / "data.yaml").write_text("names:\n  0: cat\n  1: dog\npath: .\ntrain: train.txt\n")
    assert [len(_build(root, split)) for split in ("train", "val")] == [3, 1]


def test_a_split_is_never_found_in_a_folder_of_all_images(tmp_path: Path) -> None:
    yaml = "train: ../train/images\nval: /home/train/pets/valid/images\nnames: {names}\n"
    root = write_yolo(tmp_path, {"": _TRAIN}, _NAMES, yaml=yaml, folder="{part}/{split}")
    with pytest.raises(UserError, match=r"'train' names ../train/images, which is not there"):
        recognise(root)


def test_an_export_of_roboflow_without_validation_images(tmp_path: Path, caplog) -> None:
    yaml = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnames: {names}\n"
    root = write_yolo(tmp_path, {"train": _TRAIN}, _NAMES, yaml=yaml)
    assert "4 images without a split of their own" in recognise(root).said
    assert [len(_build(root, split)) for split in ("train", "val")] == [3, 1]
    assert caplog.text.count("'val' names ../valid/images, which is not there: data.val_share draws a split") == 1


def test_without_a_split_the_names_draw_one(tmp_path: Path) -> None:
    found = drawings(20)
    root = write_yolo(tmp_path, {"": found}, _NAMES, yaml="names: {names}\n", folder="{part}/{split}")
    assert "20 images without a split of their own" in recognise(root).said
    names = {split: {name for name, *_ in _build(root, split, val_share=0.3).records} for split in ("train", "val")}
    assert not names["train"] & names["val"] and len(names["train"] | names["val"]) == 20
    save_image(drawings(1, start=30)[0], root / "images")
    after = {name for name, *_ in _build(root, "val", val_share=0.3).records}
    assert names["val"] <= after


def test_what_is_left_out_is_said(tmp_path: Path, caplog) -> None:
    root = write_yolo(tmp_path, {"train": _TRAIN, "valid": _VAL}, _NAMES)
    labels = root / "train" / "labels"
    with (labels / "picture_0.txt").open("a") as file:
        file.write("1 0.5 0.5 0.2 0.2\n")
    (labels / "picture_1.txt").write_text("")
    (labels / "picture_2.txt").unlink()
    (labels / "picture_3.txt").write_bytes(b"\xef\xbb\xbf0 -0.02 0.1 0.5 0.1 0.5 0.5\r\n\r\n")
    (labels / "stray.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    dataset = _build(root)
    assert [len(dataset[index].labels) for index in range(4)] == [2, 0, 0, 1]
    said = " ".join(caplog.messages)
    assert "left out 1 box without a polygon (line 3 of picture_0.txt)" in said
    assert "1 polygon reaches over the border of the image" in said and "line 1 of picture_3.txt" in said
    assert "1 image without a label file has no object (picture_2)" in said
    assert "passed over 1 label file without image (stray.txt)" in said


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("7 0.1 0.1 0.5 0.1 0.5 0.5", "the class 7 has no name, as the names end with that of 1"),
        ("-1 0.1 0.1 0.5 0.1 0.5 0.5", "the class must be a whole number from 0"),
        ("cat 0.1 0.1 0.5 0.1 0.5 0.5", "'cat' is no number"),
        ("0 0.1 0.1 nan 0.1 0.5 0.5", "'nan' is no number"),
        ("0 0.1 0.1 0.5 0.1 0.5 0.5 0.3", "expected x and y of three points or more after the class, got 7 numbers"),
        ("0 0.5 0.5 0.2 0.2 0.9", "Five are a box and its score"),
        ("0 12 10 50 10 50 50", "the polygon lies outside the image: 50 is not within 0 and 1. These look like pixels"),
        ("0 0.1 0.1 1.4 0.1 0.5 0.5", "the polygon lies outside the image: 1.4"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, line: str, expected: str) -> None:
    root = write_yolo(tmp_path, {"train": _TRAIN, "valid": _VAL}, _NAMES)
    with (root / "train" / "labels" / "picture_1.txt").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError) as caught:
        _build(root)
    assert "picture_1.txt, line 3: " in str(caught.value) and expected in str(caught.value)
    skipping = _build(root, on_error="skip")
    assert len(skipping) == 3 and expected in skipping.problems[0]


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("train: train/images\nval: valid/images\n", "has no 'names'"),
        ("train: train/images\n\tval: valid/images\nnames: [cat]\n", "line 2: is not valid YAML"),
        ("names: [cat, dog\ntrain: train/images", "is not valid YAML"),
        ("- cat\n- dog\n", "must hold 'key: value' pairs"),
        ("names: [cat, cat]\ntrain: train/images\n", "names the class 'cat' twice"),
        ("names: {0: cat, 2: dog}\ntrain: train/images\n", "numbers of 'names' must be 0 to 1, got '2'"),
        ("names: [cat, dog]\nnc: 3\ntrain: train/images\n", "'nc' is 3, but 'names' holds 2"),
        ("names: [cat, dog]\ntrain: nowhere/images\n", "'train' names nowhere/images, which is not there"),
        ("names: [cat, dog]\ntrain: {a: 1}\n", "'train' must be a folder, a list file"),
        ("names: [cat]\ntrain: train/images\n", "the class 1 has no name, as the names end with that of 0"),
        ("names: !!python/object/apply:os.system [ls]\ntrain: train/images\n", "names"),
    ],
)
def test_wrong_yaml_is_named(tmp_path: Path, yaml: str, expected: str) -> None:
    root = write_yolo(tmp_path, {"train": _TRAIN, "valid": _VAL}, _NAMES)
    (root / "data.yaml").write_text(yaml)
    with pytest.raises(UserError) as caught:
        _build(root)
    assert expected in str(caught.value) and str(root) in str(caught.value)


def test_the_class_no_is_a_name(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {"train": _TRAIN, "valid": _VAL}, _NAMES)
    (root / "data.yaml").write_text("train: train/images\nval: valid/images\nnames: [no, 1]\n")
    assert _build(root).info.classes == ("no", "1")


def test_boxes_alone_are_refused(tmp_path: Path, capsys) -> None:
    root = write_yolo(tmp_path, {"train": _TRAIN, "valid": _VAL}, _NAMES)
    for file in root.rglob("picture_*.txt"):
        file.write_text("0 0.5 0.5 0.2 0.2\n")
    for look in (recognise, _build):
        with pytest.raises(UserError, match=r"boxes.*export the data for segmentation, as polygons"):
            look(root)
    assert main([str(root)]) == 2 and "Traceback" not in capsys.readouterr().err


def test_labels_that_are_missing(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {"train": _TRAIN, "valid": _VAL}, _NAMES)
    for file in (root / "train" / "labels").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"none of 4 images has a label file: .*picture_0\.jpg needs .*picture_0\.txt"):
        _build(root)
    for file in (root / "train" / "images").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"data\.yaml: there is no image for train"):
        _build(root)


def test_text_files_without_names_ask_for_them(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {"": _TRAIN}, _NAMES, yaml=None, folder="{part}/{split}")
    with pytest.raises(UserError, match=r"nothing names their classes: write a .*data\.yaml"):
        recognise(root)


def test_a_folder_of_masks_with_lists_is_not_yolo(tmp_path: Path) -> None:
    for drawing in _TRAIN:
        save_image(drawing, tmp_path / "images")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "notes.txt").write_text("drawn by hand\n")
    with pytest.raises(UserError, match="is not laid out as any format that is known"):
        recognise(tmp_path)


def test_polygons_in_parts_and_numbers_as_floats(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("1.0 0 0 1 0 1 1\n")
    assert read_yolo(file, 2).objects == [(1, 1, [0, 0, 1, 0, 1, 1])]


@pytest.mark.skipif("MASKFORMER_EXT_DATA" not in os.environ, reason="MASKFORMER_EXT_DATA is not set")
def test_real_photos(tmp_path: Path, capsys) -> None:
    found = {
        split: list(coco_drawings(Path(os.environ["MASKFORMER_EXT_DATA"]) / "coco_tiny", split))
        for split in ("train", "val")
    }
    names = sorted({label for part in found.values() for one in part for label, _ in one.objects})
    root = write_yolo(
        tmp_path / "coco", found, names, yaml="train: ../train/images\nval: ../val/images\nnames: {names}\n"
    )
    config, _ = load_run_config("folder", [f"data.root={root}"])
    assert config.data.name == "yolo" and config.data.task == "instance"
    assert main([str(root), "workers=0"]) == 0 and "ready: " in capsys.readouterr().out
