"""Folders of images and masks, however they are called: where both lie, and what the numbers mean."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from own_formats import SIZE, Drawing, drawings, labelme, save_image, write_masks, write_voc, write_yolo
from PIL import Image

from maskformer_ext.data import build_dataset
from maskformer_ext.data.recognition import load_run_config, recognise
from maskformer_ext.data.splitting import is_validation, split_by_name
from maskformer_ext.errors import UserError
from maskformer_ext.prepare import main

_NAMES = ("cat", "dog")
_FOUND = drawings(6)


def _masks(found: list[Drawing] = _FOUND, *, scale: int = 1) -> list[np.ndarray]:
    return [one.masks(_NAMES)[0] * np.uint8(scale) for one in found]


def _binary(inside: int = 255) -> list[np.ndarray]:
    return [(mask > 0).astype(np.uint8) * np.uint8(inside) for mask in _masks()]


def _build(root: Path, split: str = "train", *more: str):
    config, _ = load_run_config("folder", [f"data.root={root}", *more])
    return build_dataset(config.data, split)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.jpg", "masks/{}.png"),
        ("img/{}.jpg", "ann/{}.png"),
        ("Images/{}.jpg", "GT/{}.png"),
        ("images/{}.jpg", "masks/{}_mask.png"),
        ("images/{}.jpg", "SegmentationClass/{}.png"),
        ("{}.jpg", "{}_mask.png"),
        ("{}.png", "{}_mask.png"),
        ("{}.jpg", "{}.png"),
        ("{}_sat.jpg", "{}_mask.png"),
        ("train/{}.jpg", "train_masks/{}_mask.png"),
    ],
)
def test_layouts_without_a_split(tmp_path: Path, image: str, mask: str) -> None:
    root = write_masks(tmp_path, _FOUND, _binary(), image, mask)
    found = recognise(root)
    assert (found.name, found.task) == ("semantic_folder", "semantic")
    assert "6 without a split of their own (data.val_share draws one)" in found.said
    assert "0 = background, 255 = object" in found.said
    both = [_build(root, split, "data.val_share=0.4") for split in ("train", "val")]
    names = [{name for name, *_ in dataset.pairs} for dataset in both]
    assert not names[0] & names[1] and names[0] | names[1] == {one.name for one in _FOUND}
    assert both[0].info.classes == both[1].info.classes == ("background", "object")
    sample = both[0][0]
    assert sample.labels.tolist() == [0, 1] and sample.segment_map[20, 10] == 1 and sample.segment_map[0, 0] == 0


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{split}/images/{{}}.jpg", "{split}/masks/{{}}.png"),
        ("images/{split}/{{}}.jpg", "labels/{split}/{{}}.png"),
        ("{split}_images/{{}}.jpg", "{split}_masks/{{}}.png"),
        ("{split}/{{}}.jpg", "{split}/{{}}_mask.png"),
    ],
)
@pytest.mark.parametrize("val", ["val", "valid", "test"])
def test_layouts_with_a_split(tmp_path: Path, image: str, mask: str, val: str) -> None:
    for split, part in (("train", slice(0, 4)), (val, slice(4, 6))):
        write_masks(tmp_path, _FOUND[part], _masks()[part], image.format(split=split), mask.format(split=split))
    (tmp_path / "classes.txt").write_text("nothing\ncat\ndog\n")
    assert "4 for training and 2 for validation" in recognise(tmp_path).said
    assert [len(_build(tmp_path, split)) for split in ("train", "val")] == [4, 2]
    assert _build(tmp_path).info.classes == ("nothing", "cat", "dog")


def test_a_share_of_nothing_validates_on_all_images(tmp_path: Path) -> None:
    write_masks(tmp_path, _FOUND, _binary(), "images/{}.jpg", "masks/{}.png")
    assert [len(_build(tmp_path, split, "data.val_share=0")) for split in ("train", "val")] == [6, 6]


def test_classes_are_named_by_their_values(tmp_path: Path) -> None:
    masks = _masks()
    for mask in masks:
        mask[:2] = 255
    write_masks(tmp_path, _FOUND, masks, "images/{}.jpg", "masks/{}.png")
    assert "0 = class_0, 1 = class_1, 2 = class_2" in recognise(tmp_path).said
    dataset = _build(tmp_path)
    assert dataset.info.classes == ("class_0", "class_1", "class_2") and (dataset[0].segment_map[:2] == -1).all()
    Image.fromarray(np.full(SIZE, 7, np.uint8)).save(tmp_path / "masks" / "picture_0.png")
    (tmp_path / "classes.json").write_text('{"classes": ["sky", "cat", "dog"], "values": [0, 1, 2]}')
    with pytest.raises(UserError, match=r"picture_0\.png holds the label 7, but the classes are 0 to 2"):
        [_build(tmp_path, split)[index] for split in ("train", "val") for index in range(6)]


def test_spread_grey_levels_are_classes(tmp_path: Path) -> None:
    masks = _masks(scale=85)
    masks[0][:2] = 255
    write_masks(tmp_path, _FOUND, masks, "images/{}.jpg", "masks/{}.png")
    assert _build(tmp_path).info.classes == ("class_0", "class_85", "class_170", "class_255")


def test_values_of_a_classes_file(tmp_path: Path) -> None:
    write_masks(tmp_path, _FOUND, _masks(scale=100), "images/{}.jpg", "masks/{}.png")
    (tmp_path / "classes.json").write_text('{"classes": ["dog", "none", "cat"], "values": [200, 0, 100]}')
    dataset = _build(tmp_path)
    sample = dataset[0]
    assert dataset.info.classes[sample.labels[sample.segment_map[0, 0]]] == "none"
    assert {dataset.info.classes[label] for label in sample.labels.tolist()} == {"dog", "none", "cat"}


@pytest.mark.parametrize("values", ["[0, 1]", "[0, 0, 1]", "[0, 1, -1]", "[0, 1, true]", '"012"'])
def test_values_that_are_none(tmp_path: Path, values: str) -> None:
    write_masks(tmp_path, _FOUND, _masks(), "images/{}.jpg", "masks/{}.png")
    (tmp_path / "classes.json").write_text(f'{{"classes": ["a", "b", "c"], "values": {values}}}')
    with pytest.raises(UserError, match='"values" must be a list of 3 different whole numbers'):
        recognise(tmp_path)


def test_roboflows_masks(tmp_path: Path) -> None:
    for split, part in (("train", slice(0, 4)), ("valid", slice(4, 6))):
        write_masks(tmp_path, _FOUND[part], _masks()[part], f"{split}/{{}}.jpg", f"{split}/{{}}_mask.png")
        (tmp_path / split / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
    assert "3 classes" in recognise(tmp_path).said
    assert _build(tmp_path, "val").info.classes == ("background", "cat", "dog")
    (tmp_path / "train" / "_classes.csv").write_text("Pixel Value, Class\n0, background\ncat\n")
    with pytest.raises(UserError, match=r"_classes\.csv, row 3: expected a value and a name"):
        recognise(tmp_path)


def test_masks_in_colours(tmp_path: Path) -> None:
    table = np.array([(0, 0, 0), (255, 255, 255), (255, 255, 255)], np.uint8)
    write_masks(tmp_path, _FOUND, [table[mask] for mask in _masks()], "images/{}.jpg", "masks/{}.png")
    dataset = _build(tmp_path)
    assert dataset.info.classes == ("background", "object") and dataset[0].segment_map[20, 10] == 1
    table[2] = (255, 0, 0)
    write_masks(tmp_path, _FOUND, [table[mask] for mask in _masks()], "images/{}.jpg", "masks/{}.png")
    fresh = write_masks(tmp_path / "b", _FOUND, [table[mask] for mask in _masks()], "images/{}.jpg", "masks/{}.png")
    assert set(_build(fresh).info.classes) == {"color_000000", "color_ff0000", "color_ffffff"}


def test_instances_are_recognised_by_their_numbers(tmp_path: Path) -> None:
    masks = []
    for number in range(len(_FOUND)):
        mask = np.zeros(SIZE, np.uint16)
        mask.flat[: 16 * (10 + number)] = np.repeat(np.arange(1, 11 + number), 16)
        masks.append(mask)
    root = write_masks(tmp_path / "small", _FOUND, masks, "images/{}.png", "masks/{}.png")
    found = recognise(root)
    assert (found.name, found.task) == ("instance_folder", "instance")
    dataset = _build(root)
    assert dataset.info.classes == ("object",) and len(dataset[0].labels) >= 10
    large = write_masks(
        tmp_path / "large", _FOUND, [mask * np.uint16(300) for mask in masks], "i/{}.png", "masks/{}.png"
    )
    (large / "i").rename(large / "images")
    assert recognise(large).name == "instance_folder"


def test_numbers_that_could_be_both_ask_for_the_name(tmp_path: Path) -> None:
    masks = []
    for number in range(len(_FOUND)):
        mask = np.zeros(SIZE, np.uint8)
        for value in range(1, 2 + number):
            mask[value] = value
        masks.append(mask)
    write_masks(tmp_path, _FOUND, masks, "images/{}.png", "masks/{}.png")
    with pytest.raises(UserError, match=r"fits 2 formats.*data\.name=semantic_folder.*data\.name=instance_folder"):
        recognise(tmp_path)
    assert _build(tmp_path, "train", "data.name=instance_folder").info.classes == ("object",)
    assert len(_build(tmp_path, "train", "data.name=semantic_folder").info.classes) == 7


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        (
            [np.zeros(SIZE, np.uint8)] * 6,
            "hold the value 0 alone, so there is nothing to tell apart: write a classes.json",
        ),
        ([np.arange(48 * 64, dtype=np.uint8).reshape(SIZE)] * 6, "different values, .*no file names the classes"),
        ([np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)] * 6, "different colours, and no file says"),
    ],
)
def test_values_that_say_nothing_ask_for_a_classes_file(tmp_path: Path, masks: list, expected: str) -> None:
    write_masks(tmp_path, _FOUND, masks, "images/{}.jpg", "masks/{}.png")
    with pytest.raises(UserError, match=expected):
        recognise(tmp_path)


def test_jpeg_masks_are_refused(tmp_path: Path, capsys) -> None:
    write_masks(tmp_path, _FOUND, _binary(), "images/{}.jpg", "masks/{}.jpg")
    with pytest.raises(UserError, match=r"holds masks such as picture_0\.jpg, a format that changes the numbers"):
        recognise(tmp_path)
    assert main([str(tmp_path)]) == 2 and "Traceback" not in capsys.readouterr().err


def test_two_folders_of_labels_are_not_guessed(tmp_path: Path) -> None:
    write_masks(tmp_path, _FOUND, _binary(), "images/{}.jpg", "masks/{}.png")
    write_masks(tmp_path, _FOUND, _binary(), "images/{}.jpg", "labels/{}.png")
    with pytest.raises(
        UserError, match=r"holds labels in labels and masks\. Say which are meant: config=semantic_folder"
    ):
        recognise(tmp_path)


def test_an_empty_folder(tmp_path: Path, capsys) -> None:
    with pytest.raises(UserError, match="it holds nothing"):
        recognise(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match="is not laid out as any format"):
        recognise(tmp_path)


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    write_masks(tmp_path, _FOUND, _binary(), "images/{}.jpg", "masks/{}.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "masks" / "picture_0.png")
    with pytest.raises(UserError, match=r"picture_0\.png is 9x9 pixels, but its image .*picture_0\.jpg is 64x48"):
        [_build(tmp_path, split)[index] for split in ("train", "val") for index in range(6)]


def test_one_format_is_not_taken_for_another(tmp_path: Path) -> None:
    yolo = write_yolo(tmp_path / "yolo", {"train": _FOUND[:4], "val": _FOUND[4:]}, _NAMES, yaml="names: {names}\n")
    voc = write_voc(tmp_path / "voc", _FOUND, _NAMES, lists={"default": _FOUND})
    assert recognise(yolo).name == "yolo" and recognise(voc).name == "voc"
    for drawing in _FOUND:
        save_image(drawing, tmp_path / "both" / "images")
        content = labelme(drawing, f"../images/{drawing.name}.jpg")
        (tmp_path / "both" / "labels").mkdir(exist_ok=True)
        (tmp_path / "both" / "labels" / f"{drawing.name}.json").write_text(json.dumps(content))
    assert recognise(tmp_path / "both").name == "labelme"
    write_yolo(tmp_path / "both", {"": _FOUND}, _NAMES, yaml="names: {names}\n", folder="{part}/{split}")
    with pytest.raises(UserError, match=r"fits 2 formats.*data\.name=yolo.*data\.name=labelme"):
        recognise(tmp_path / "both")
    assert recognise(tmp_path / "both", "yolo").name == "yolo"


def test_a_split_by_name_leaves_no_side_empty() -> None:
    names = [f"image {number}" for number in range(200)]
    val = split_by_name(names, "val", 0.1, "here")
    assert val == [name for name in names if is_validation(name, 0.1)] and 5 < len(val) < 40
    assert set(val) <= set(split_by_name([*names, "another"], "val", 0.1, "here"))
    few = [name for name in names if not is_validation(name, 0.1)][:3]
    assert len(split_by_name(few, "val", 0.1, "here")) == 1 and len(split_by_name(few, "train", 0.1, "here")) == 2
    many = [name for name in names if is_validation(name, 0.1)][:3]
    assert len(split_by_name(many, "train", 0.1, "here")) == 1
    with pytest.raises(UserError, match="none of its 1 images is for validation"):
        split_by_name(few[:1], "val", 0.1, "here")


@pytest.mark.skipif("MASKFORMER_EXT_DATA" not in os.environ, reason="MASKFORMER_EXT_DATA is not set")
@pytest.mark.parametrize(("folder", "name"), [("nuclei", "instance_folder"), ("camvid", "semantic_folder")])
def test_real_folders(folder: str, name: str) -> None:
    root = Path(os.environ["MASKFORMER_EXT_DATA"]) / folder
    assert recognise(root).name == name
    assert len(_build(root)) > 100 and len(_build(root, "val")) > 100


@pytest.mark.skipif("MASKFORMER_EXT_DATA" not in os.environ, reason="MASKFORMER_EXT_DATA is not set")
def test_many_classes_without_names_ask_for_them() -> None:
    with pytest.raises(UserError, match=r"no file names the classes.*If 0 means unlabelled, set data.ignore_label=0"):
        recognise(Path(os.environ["MASKFORMER_EXT_DATA"]) / "ade_sample3")
