"""What numbers and colours of a folder's label images mean: labels from 1, CVAT's label map, orientation, limits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from public_layouts import SIZE, ade20k, coco_panoptic, photograph, rows, save

from maskformer_ext.config import DataConfig
from maskformer_ext.data import build_dataset
from maskformer_ext.data.classes import palette, read_classes_file
from maskformer_ext.errors import UserError

_CVAT = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\ncar:0,0,142:wheel,door:drive\n"


def _folder(root, label, classes=("wall", "road", "car"), **content):
    """Write one image and its label, with a classes file, or none where ``classes`` is None."""
    photograph(root / "train/images/a.png", label.shape[:2])
    save(root / "train/labels/a.png", label)
    if classes is not None:
        (root / "classes.json").write_text(json.dumps({"classes": list(classes), **content}))
    return DataConfig(name="semantic_folder", root=str(root))


# --- labels that start at 1


@pytest.mark.parametrize("where", ["key", "ignore_label", "ignore_index"])
def test_zero_for_unlabelled_shifts_the_classes(tmp_path, where):
    config = _folder(tmp_path, rows(0, 1, 2, 3), **({} if where == "key" else {where: 0}))
    config.ignore_label = 0 if where == "key" else 255
    dataset = build_dataset(config, "train")
    assert dataset.info.classes == ("wall", "road", "car") and dataset.info.ignore_label == 255
    assert dataset[0].labels.tolist() == [0, 1, 2]
    assert dataset[0].label_map(255)[:, 0].tolist() == [255, 0, 1, 2, 2, 2]
    assert (dataset[0].segment_map[0] == -1).all()


def test_many_classes_from_one_keep_their_void_apart(tmp_path):
    config = _folder(tmp_path, rows(0, 300, 255, dtype=np.uint16), [f"class {number}" for number in range(300)])
    config.ignore_label = 0
    dataset = build_dataset(config, "train")
    assert dataset.info.ignore_label == 65535 and dataset[0].labels.tolist() == [254, 299]
    assert dataset[0].label_map(65535)[:3, 0].tolist() == [65535, 299, 254]


@pytest.mark.parametrize(
    ("values", "void", "sentence"),
    [
        ((0, 3), 255, "holds the label 3, but the classes are 0 to 2 and void is 255: correct the image"),
        ((0, 3), 255, "If 0 means unlabelled and the classes count from 1, set data.ignore_label=0."),
        ((0, 4), 0, "holds the label 4, but the classes are 1 to 3 and void is 0"),
        ((1, 255), 0, "holds the label 255"),
        ((1,), 1, "data.ignore_label must be 0 (the classes are then 1 to 3) or beyond the 3 class ids"),
        ((1,), 2, "data.ignore_label must be 0"),
        ((1,), -1, "data.ignore_label must be 0"),
        ((1,), 10**12, "at most 65535, got 1000000000000"),
    ],
)
def test_labels_and_void_values_that_do_not_fit(tmp_path, values, void, sentence):
    config = _folder(tmp_path, rows(*values))
    config.ignore_label = void
    with pytest.raises(UserError) as error:
        build_dataset(config, "train")[0]
    assert sentence in str(error.value)


def test_no_advice_where_it_would_not_help(tmp_path):
    with pytest.raises(UserError) as error:
        build_dataset(_folder(tmp_path, rows(0, 4, 9)), "train")[0]
    assert "holds the label 9" in str(error.value) and "unlabelled" not in str(error.value)


# --- CVAT


def test_the_label_map_of_cvat(tmp_path):
    (tmp_path / "labelmap.txt").write_text(_CVAT)
    table = read_classes_file(tmp_path / "labelmap.txt")
    assert table.classes == ("background", "road", "car") and table.own_colors
    assert table.colors == ((0, 0, 0), (128, 64, 128), (0, 0, 142))
    dataset = build_dataset(_folder(tmp_path, rows(0, 1, 2), None), "train")
    assert dataset.info.classes == table.classes and dataset[0].labels.tolist() == [0, 1, 2]


def test_label_images_in_the_colours_of_the_classes(tmp_path):
    (tmp_path / "labelmap.txt").write_text(_CVAT)
    label = np.zeros((*SIZE, 3), np.uint8)
    label[2:4], label[4:] = (128, 64, 128), (0, 0, 142)
    dataset = build_dataset(_folder(tmp_path, label, None), "train")
    assert dataset[0].label_map()[:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    label[0, 0] = 1, 2, 3
    save(tmp_path / "train/labels/a.png", label)
    with pytest.raises(
        UserError, match=r"a.png holds the colour \[1, 2, 3\], which the classes file gives to no class"
    ):
        dataset[0]


@pytest.mark.parametrize("void", [255, 0])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_palettes_with_the_colours_of_the_classes_in_another_order(tmp_path, order, void):
    colors = [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    truth = np.array([[0, 0, 1, 2], [2, 1, 0, 0]])
    first = 1 if void == 0 else 0  # index 0 is then void, of a colour that no class has
    index = (np.argsort(order)[truth] + first).astype(np.uint8)
    flat = [9, 9, 9] * first + [value for place in order for value in colors[place]]
    config = _palette_folder(tmp_path, index, flat, classes=["sea", "ship", "buoy"], colors=colors)
    config.ignore_label = void
    assert build_dataset(config, "train")[0].label_map().tolist() == truth.tolist()


def test_palettes_with_other_colours_are_numbers(tmp_path):
    index = np.array([[0, 1], [1, 255]], np.uint8)
    colors = [[0, 0, 0], [0, 128, 0]]
    config = _palette_folder(tmp_path, index, [0, 128, 0] + [7] * 765, classes=["sea", "ship"], colors=colors)
    assert build_dataset(config, "train")[0].label_map().tolist() == index.tolist()


def _palette_folder(root, index, flat, **content):
    config = _folder(root, index, **content)
    label = Image.frombytes("P", index.shape[::-1], index.tobytes())
    label.putpalette(flat)
    label.save(root / "train/labels/a.png")
    return config


@pytest.mark.parametrize("colors", [None, [[9, 9, 9]] * 3])
def test_colours_that_tell_no_classes_apart_are_no_labels(tmp_path, colors):
    config = _folder(tmp_path, np.full((*SIZE, 3), 9, np.uint8), colors=colors)
    with pytest.raises(UserError, match=r"a.png has the mode RGB"):
        build_dataset(config, "train")[0]


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("# classes of the harbour\nship\n  # more\nbuoy\n", ("ship", "buoy")),
        ("ship: large\nbuoy:1\n", ("ship: large", "buoy:1")),
        ("sky:::\ntree:1,2,3::\n", ("sky", "tree")),
    ],
)
def test_text_files(tmp_path, text, classes):
    (tmp_path / "classes.txt").write_text(text)
    assert read_classes_file(tmp_path / "classes.txt").classes == classes


def test_label_maps_that_are_damaged(tmp_path):
    path = tmp_path / "labelmap.txt"
    path.write_text(_CVAT + "tree\n")
    with pytest.raises(UserError, match="line 5: 'tree' must be name:red,green,blue:parts:actions"):
        read_classes_file(path)
    path.write_text("background:0,0::\n")  # no line is right
    with pytest.raises(UserError, match="line 1: 'background:0,0::' must be name:red,green,blue:parts:actions"):
        read_classes_file(path)
    path.write_text("a:1,2,300::\n")
    with pytest.raises(UserError, match='"colors" must be a list of 1'):
        read_classes_file(path)
    path.write_text("sky:::\n")
    assert read_classes_file(path).colors == palette(1) and not read_classes_file(path).own_colors


# --- orientation


def _turned(path, pixels, orientation=6):
    """Write an image whose Exif block says how to turn it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def test_exif_turns_images_and_labels_alike_or_neither(tmp_path):
    config = _folder(tmp_path, rows(0, 1, 2))
    raw = np.repeat(rows(10, 90, 200)[..., None], 3, axis=2)
    _turned(tmp_path / "train/images/a.png", raw)
    _turned(tmp_path / "train/labels/a.png", rows(0, 1, 2))
    sample = build_dataset(config, "train")[0]
    assert sample.size == SIZE[::-1] and sample.label_map()[0].tolist() == [2, 2, 2, 2, 1, 0]
    assert sample.image[0, 0].tolist() == [200, 200, 200, 200, 90, 10]
    config.exif = False
    sample = build_dataset(config, "train")[0]
    assert sample.size == SIZE and sample.label_map()[:, 0].tolist() == [0, 1, 2, 2, 2, 2]
    assert np.array_equal(sample.image[0].numpy(), raw[..., 0])
    save(tmp_path / "train/labels/a.png", rows(0, 1, 2))  # drawn on the raw image: says nothing of an orientation
    assert build_dataset(config, "train")[0].size == SIZE
    config.exif = True
    with pytest.raises(UserError, match=r"both must have the same size\. .*data\.exif=false"):
        build_dataset(config, "train")[0]


def test_exif_of_coco_and_of_ade20k(tmp_path):
    coco_panoptic(tmp_path / "coco")
    _turned(tmp_path / "coco/train2017/000000000012.jpg", np.full((*SIZE, 3), 90, np.uint8))
    config = DataConfig(name="coco_panoptic", root=str(tmp_path / "coco"), task="panoptic")
    with pytest.raises(UserError, match="but its image"):
        build_dataset(config, "train")[0]
    config.exif = False
    assert build_dataset(config, "train")[0].size == SIZE
    ade20k(tmp_path / "ade")
    config = DataConfig(name="ade20k_panoptic", root=str(tmp_path / "ade"), task="panoptic")
    before = build_dataset(config, "train")[0]
    for kind in ("images", "annotations", "annotations_instance"):
        (path,) = (tmp_path / "ade" / kind / "training").iterdir()
        _turned(path, np.array(Image.open(path)), 3)
    assert torch.equal(build_dataset(config, "train")[0].segment_map, before.segment_map.flip(0, 1))
    config.exif = False
    assert torch.equal(build_dataset(config, "train")[0].segment_map, before.segment_map)


# --- how large files may be


def test_the_limit_of_pixels_is_a_key(tmp_path, monkeypatch):
    monkeypatch.delenv("MASKFORMER_EXT_MAX_PIXELS", raising=False)
    config = _folder(tmp_path, rows(0))
    config.max_pixels = 47
    with pytest.raises(UserError, match=r"8x6 = 48 pixels, more than the limit of 47: .*data.max_pixels=48"):
        build_dataset(config, "train")[0]
    config.max_pixels = 48
    assert build_dataset(config, "train")[0].size == SIZE
    config.max_pixels = -1
    with pytest.raises(UserError, match=r"data.max_pixels must be a number of pixels"):
        build_dataset(config, "train")
    config.max_pixels = 0
    assert build_dataset(config, "train")[0].size == SIZE


# --- subfolders


def test_instances_of_ade20k_keep_their_folders(tmp_path):
    ade20k(tmp_path)
    for kind in ("images", "annotations", "annotations_instance"):
        folder = tmp_path / kind / "training"
        (path,) = folder.iterdir()
        (folder / "day").mkdir()
        (folder / "night").mkdir()
        (folder / "day" / path.name).write_bytes(path.read_bytes())
        path.rename(folder / "night" / path.name)
    dataset = build_dataset(DataConfig(name="ade20k_panoptic", root=str(tmp_path), task="panoptic"), "train")
    names = [dataset[index].name for index in range(len(dataset))]
    assert names == ["day/ADE_train_00000001", "night/ADE_train_00000001"]
