"""Masks in Pascal VOC's layout, as VOC, CVAT and converters write them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from own_formats import SIZE, drawings, save_image, write_palette, write_voc
from PIL import Image

from maskformer_ext.config import DataConfig
from maskformer_ext.data import build_dataset
from maskformer_ext.data.formats.voc_colors import voc_color
from maskformer_ext.data.recognition import recognise
from maskformer_ext.errors import UserError
from maskformer_ext.prepare import main

_NAMES = ("cat", "dog")
_FOUND = drawings(8)
_LISTS = {"train": _FOUND[:6], "val": _FOUND[6:]}


def _build(root: Path, split: str = "train", task: str = "semantic", **more):
    return build_dataset(DataConfig(name="voc", root=str(root), task=task, **more), split)


def _classes(dataset, index: int = 0) -> dict[str, int]:
    """Return the pixels of each class."""
    sample = dataset[index]
    areas = torch.bincount((sample.segment_map + 1).flatten(), minlength=len(sample.labels) + 1)[1:]
    found: dict[str, int] = {}
    for label, area in zip(sample.labels.tolist(), areas.tolist(), strict=True):
        found[dataset.info.classes[label]] = found.get(dataset.info.classes[label], 0) + area
    return found


def test_colours_of_the_palette() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {number: voc_color(number) for number in known} == known


@pytest.mark.parametrize("colors", [False, True])
def test_classes_and_instances(tmp_path: Path, colors: bool) -> None:
    same = drawings(4, ("cat", "cat", "dog"))  # two of one class: instances are told apart
    root = write_voc(tmp_path, same, _NAMES, lists={"train": same[:2], "val": same[2:]}, colors=colors)
    found = recognise(root)
    assert (found.name, found.task) == ("voc", "instance")
    assert "2 for training and 2 for validation, 3 classes: background, cat, dog" in found.said
    semantic = _build(root)
    assert semantic.info.classes == ("background", *_NAMES)
    square = 21 * 25  # as Pillow draws it
    assert _classes(semantic) == {"background": SIZE[0] * SIZE[1] - 2 * square, "cat": 2 * square}
    instance = _build(root, task="instance")
    assert (
        instance.info.classes == _NAMES and len(instance[0].labels) == 2 and _classes(instance) == {"cat": 2 * square}
    )
    panoptic = _build(root, task="panoptic")
    assert panoptic.info.thing_classes == (1, 2) and sorted(panoptic[0].labels.tolist()) == [0, 1, 1]
    assert (panoptic[0].segment_map >= 0).all()


def test_without_two_of_a_class_the_task_is_semantic(tmp_path: Path) -> None:
    root = write_voc(tmp_path, _FOUND, _NAMES, lists=_LISTS)
    shutil.rmtree(root / "SegmentationObject")
    assert recognise(root).task == "semantic"
    with pytest.raises(UserError, match=r"needs masks of instances, but .*SegmentationObject is missing"):
        _build(root, task="instance")


@pytest.mark.parametrize("colors", [False, True])
def test_void(tmp_path: Path, colors: bool) -> None:
    root = write_voc(tmp_path, _FOUND, _NAMES, lists=_LISTS, colors=colors)
    for folder in ("SegmentationClass", "SegmentationObject"):
        path = root / folder / "picture_0.png"
        numbers = np.array(Image.open(path))
        numbers[:4] = (224, 224, 192) if colors else 255
        Image.fromarray(numbers).save(path) if colors else write_palette(numbers, path)
    for task in ("semantic", "instance", "panoptic"):
        sample = _build(root, task=task)[0]
        assert (sample.segment_map[:4] == -1).all() and sample.segment_map[20, 10] >= 0


@pytest.mark.parametrize("lists", [{"default": _FOUND}, {"trainval": _FOUND, "train": _FOUND[:2]}, {}])
def test_one_list_or_none_is_split_by_name(tmp_path: Path, lists: dict) -> None:
    root = write_voc(tmp_path, _FOUND, _NAMES, lists=lists)
    save_image(drawings(1, start=50)[0], root / "JPEGImages")  # VOC has more images than masks
    assert "8 without a split of their own" in recognise(root).said
    both = [_build(root, split, val_share=0.4) for split in ("train", "val")]
    names = [{name for name, *_ in dataset.pairs} for dataset in both]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 8 and all(names)


def test_vocs_own_classes_without_a_labelmap(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOCdevkit" / "VOC2012", _FOUND, _NAMES, lists=_LISTS, labelmap=False)
    root = root.parent.parent
    assert "21 classes: background, aeroplane" in recognise(root).said
    assert set(_classes(_build(root))) == {"background", "aeroplane", "bicycle"}
    other = np.full(SIZE, 40, np.uint8)
    write_palette(other, root / "VOCdevkit/VOC2012/SegmentationClass/picture_0.png")
    with pytest.raises(UserError, match=r"picture_0\.png has other values or colours than Pascal VOC's 21 classes"):
        recognise(root)


def test_a_palette_in_another_order_is_read_by_its_colours(tmp_path: Path) -> None:
    root = write_voc(tmp_path, _FOUND, _NAMES, lists=_LISTS)
    before = _classes(_build(root))
    path = root / "SegmentationClass" / "picture_0.png"
    numbers = np.array(Image.open(path))
    image = Image.fromarray(2 - numbers, "P")
    image.putpalette([*voc_color(2), *voc_color(1), *voc_color(0)])
    image.save(path)
    assert _classes(_build(root)) == before


def test_mistakes_are_named(tmp_path: Path, capsys) -> None:
    root = write_voc(tmp_path, _FOUND, _NAMES, lists=_LISTS)
    lists = root / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("picture_0\npicture_77\n")
    with pytest.raises(
        UserError, match=r"train\.txt, line 2: the image of picture_77 is missing: expected .*JPEGImages"
    ):
        _build(root)
    assert main([str(root), "workers=0", "sheet=none"]) == 1
    err = capsys.readouterr().err
    assert "line 2: the image of picture_77 is missing" in err and "Traceback" not in err
    (lists / "train.txt").write_text("picture_0\n\npicture_0\n")
    with pytest.raises(UserError, match=r"train\.txt, line 3: names picture_0 again, after line 1"):
        _build(root)
    (lists / "train.txt").write_text("\n")
    with pytest.raises(UserError, match=r"train\.txt names no image"):
        _build(root)
    (lists / "train.txt").write_text("picture_0\n")
    write_palette(np.full(SIZE, 9), root / "SegmentationClass" / "picture_0.png")
    with pytest.raises(UserError, match=r"picture_0\.png holds the value 9, which is none of the 3 classes"):
        _build(root)[0]
    write_palette(np.zeros((9, 9)), root / "SegmentationClass" / "picture_0.png")
    with pytest.raises(UserError, match=r"picture_0\.png is 9x9 pixels, but its image .*picture_0\.jpg is 64x48"):
        _build(root)[0]
    with pytest.raises(UserError, match=r"both must have the same size"):
        _build(root, task="instance")[0]
    shutil.rmtree(root / "JPEGImages")
    with pytest.raises(UserError, match=r"holds masks, but the folder .*JPEGImages of their images is missing"):
        recognise(root)


@pytest.mark.skipif("MASKFORMER_EXT_DATA" not in os.environ, reason="MASKFORMER_EXT_DATA is not set")
def test_real_road_scenes_in_colours(tmp_path: Path) -> None:
    source = Path(os.environ["MASKFORMER_EXT_DATA"]) / "camvid"
    own = build_dataset(DataConfig(name="semantic_folder", root=str(source)), "train")
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(own.info.classes)], colors[255] = own.info.colors, (224, 224, 192)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for name, image, label in own.pairs[:4]:
        shutil.copy(image, tmp_path / "JPEGImages" / f"{name}.jpg")
        Image.fromarray(colors[np.array(Image.open(label))]).save(tmp_path / "SegmentationClass" / f"{name}.png")
    (tmp_path / "ImageSets/Segmentation/default.txt").write_text("".join(f"{name}\n" for name, *_ in own.pairs[:4]))
    rows = zip(own.info.classes, own.info.colors, strict=True)
    (tmp_path / "labelmap.txt").write_text("".join(f"{name}:{','.join(map(str, color))}::\n" for name, color in rows))
    assert recognise(tmp_path).task == "semantic"
    found = _build(tmp_path, val_share=0.4)
    names = [name for name, *_ in own.pairs]
    for index, (name, *_) in enumerate(found.pairs):
        assert torch.equal(found[index].label_map(), own[names.index(name)].label_map())
