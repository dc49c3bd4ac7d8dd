"""Cityscapes, Mapillary Vistas, COCO-Stuff-10K and the full ADE20K: small sets in the layouts as distributed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from public_layouts import (
    SIZE,
    ade20k_full,
    cityscapes,
    coco_stuff,
    photograph,
    rows,
    save,
    save_matlab,
)

from maskformer_ext.config import AugmentationConfig, Config, DataConfig
from maskformer_ext.data import build_dataset, build_loader
from maskformer_ext.errors import UserError


def _build(name, root, split="train", **more):
    return build_dataset(DataConfig(name=name, root=str(root), task="semantic", **more), split)


# --- Cityscapes


def test_cityscapes_label_ids(tmp_path):
    cityscapes(tmp_path, rows(7, 33, 0, 26, 9))
    dataset = _build("cityscapes-19", tmp_path)
    assert dataset.info.num_classes == 19 and dataset.info.ignore_label == 255
    assert dataset[0].name == "aachen/aachen_000000_000019" and dataset[0].labels.tolist() == [0, 13, 18]
    assert dataset[0].label_map()[:, 0].tolist() == [0, 18, 255, 13, 255, 255]
    assert [dataset.info.classes[label] for label in (0, 13, 18)] == ["road", "car", "bicycle"]


def test_cityscapes_train_ids_are_preferred_where_all_images_have_them(tmp_path):
    first = cityscapes(tmp_path, rows(7))
    second = cityscapes(tmp_path, rows(8), city="bochum")
    save(first, rows(2, 255))
    assert _build("cityscapes", tmp_path)[0].labels.tolist() == [0]
    save(second, rows(3, 255))
    assert [sample.labels.tolist() for sample in _build("cityscapes", tmp_path)] == [[2], [3]]


# --- Mapillary Vistas


@pytest.mark.parametrize("labels", ["labels", "v1.2/labels"])
def test_mapillary_palette(tmp_path, labels):
    photograph(tmp_path / "training/images/aB-1.jpg")
    image = Image.fromarray(rows(0, 64, 65))
    image.putpalette([165, 42, 42] * 66)
    (tmp_path / "training" / labels).mkdir(parents=True)
    image.save(tmp_path / "training" / labels / "aB-1.png")
    dataset = _build("mapillary_vistas", tmp_path)
    assert dataset.info.num_classes == 65 and dataset.info.ignore_label == 65
    assert dataset.info.classes[0] == "Bird" and dataset.info.classes[64] == "Ego Vehicle"
    assert dataset[0].label_map(65)[:, 0].tolist() == [0, 64, 65, 65, 65, 65]


# --- COCO-Stuff-10K


@pytest.fixture
def stuff(tmp_path):
    """One image in each list."""
    return coco_stuff(tmp_path)


def test_stuff_from_matlab_files(stuff):
    dataset = _build("coco_stuff_10k", stuff, "val")
    assert (
        dataset.info.num_classes == 171 and dataset.info.classes[0] == "person" and dataset.info.classes[170] == "wood"
    )
    assert dataset[0].name == "COCO_train2014_000000000154"
    assert dataset[0].label_map()[:, 0].tolist() == [255, 0, 170, 170, 170, 170]


def test_stuff_from_converted_images(stuff):
    save(stuff / "annotations_detectron2/train/COCO_train2014_000000000077.png", rows(255, 3, 0))
    assert _build("coco_stuff_10k", stuff)[0].labels.tolist() == [0, 3]
    assert _build("coco_stuff_10k", stuff, "val")[0].labels.tolist() == [0, 170]  # not converted


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: save_matlab(path, rows(0)), "holds the value 0 (row 0, column 0)"),
        (lambda path: save_matlab(path, rows(173)), "holds the value 173"),
        (lambda path: save_matlab(path, rows(2), "T"), "the variable S cannot be read"),
        (lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file"), "is no MATLAB 7.3"),
        (lambda path: path.unlink(), "is missing, but the list of train images names it"),
        (lambda path: (path.parents[1] / "imageLists/train.txt").write_text(" "), "train.txt is empty"),
    ],
)
def test_stuff_mistakes_are_named(stuff, damage, sentence):
    damage(stuff / "annotations/COCO_train2014_000000000077.mat")
    with pytest.raises(UserError) as error:
        _build("coco_stuff_10k", stuff)[0]
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_matlab_files_need_h5py(stuff, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match="only with h5py: pip install h5py"):
        _build("coco_stuff_10k", stuff)[0]


# --- ADE20K with its full vocabulary


def test_full_vocabulary(tmp_path):
    ade20k_full(
        tmp_path, rows(0, 312, 2978, 3148, 1, dtype=np.int64)
    )  # building, wall, adding machine; 0 and 1 are no classes
    dataset = _build("ade20k-full-847", tmp_path)
    assert dataset.info.num_classes == 847 and dataset.info.ignore_label == 65535
    assert dataset.info.classes[0] == "wall" and dataset.info.classes[846].startswith("adding machine")
    assert dataset[0].labels.tolist() == [0, 1, 846]
    assert dataset[0].label_map(65535)[:, 0].tolist() == [65535, 1, 0, 846, 65535, 65535]


def test_large_images_of_the_full_vocabulary_shrink(tmp_path):
    ids = np.full((514, 1028), 312)
    ids[:, 514:] = 2978
    ade20k_full(tmp_path, ids)
    ade20k_full(tmp_path, np.full((512, 700), 312), stem="ADE_train_00000002")
    dataset = _build("ade20k_full", tmp_path)
    assert dataset[0].size == (512, 1024) and tuple(dataset[0].image.shape) == (3, 512, 1024)
    assert (dataset[0].label_map()[:, :512] == 1).all() and (dataset[0].label_map()[:, 512:] == 0).all()
    assert dataset[1].size == (512, 700)


def test_converted_full_vocabulary(tmp_path):
    photograph(tmp_path / "images_detectron2/training/a.jpg")
    save(tmp_path / "annotations_detectron2/training/a.tif", rows(846, 65535, 3, dtype=np.uint16))
    dataset = _build("ade20k_full", tmp_path)
    assert dataset[0].labels.tolist() == [3, 846] and int((dataset[0].segment_map == -1).sum()) == SIZE[1]


# --- what can be wrong in any of them


@pytest.mark.parametrize(
    ("name", "make", "sentence"),
    [
        ("cityscapes", lambda root: cityscapes(root, rows(34)), "holds the value 34"),
        ("cityscapes", lambda root: save(cityscapes(root, rows(7)), rows(19)), "holds the value 19"),
        ("cityscapes", lambda root: save(root / "gtFine/train/x.png", rows(7)), "leftImg8bit/train is missing"),
        (
            "ade20k_full",
            lambda root: (ade20k_full(root, rows(7)) / "ADE_train_00000001_seg.png").unlink(),
            "has no label",
        ),
        (
            "ade20k_full",
            lambda root: photograph(ade20k_full(root, rows(7)) / "ADE_train_00000001.jpg", (3, 3)),
            "is 3x3",
        ),
        ("mapillary_vistas", lambda root: photograph(root / "training/images/a.jpg"), "training/labels is missing"),
    ],
)
def test_mistakes_are_named(tmp_path, name, make, sentence):
    make(tmp_path)
    with pytest.raises(UserError) as error:
        _build(name, tmp_path)[0]
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_samples_are_tensors_of_the_contract(tmp_path):
    cityscapes(tmp_path, rows(7, 8))
    sample = _build("cityscapes", tmp_path)[0]
    assert sample.segment_map.dtype == torch.int32 and sample.labels.dtype == torch.int64
    assert sample.image.dtype == torch.uint8 and tuple(sample.image.shape) == (3, *SIZE)


# --- data.on_error=skip


@pytest.mark.parametrize("split", ["train", "val"])
def test_skipping_counts_and_reports(tmp_path, split):
    for number, values in enumerate(((7, 8), (99,), (11,))):
        cityscapes(tmp_path, rows(*values), split, city=f"city{number}")
    photograph(tmp_path / "leftImg8bit" / split / "city3" / "a_leftImg8bit.png")
    config = Config(data=DataConfig(name="cityscapes", root=str(tmp_path), on_error="skip", num_workers=0))
    config.data.augmentation = AugmentationConfig(min_sizes=[], crop_size=[4, 4])
    config.train.max_iters, config.train.batch_size = 2, 3
    loader = build_loader(config, split)
    names = [name for batch in loader for name in batch.names]
    assert len(names) == (6 if split == "train" else 2) and not any("city1" in name for name in names)
    assert len(loader.skipped) == 2
    assert "city3/a_leftImg8bit.png has no label" in loader.skipped[0] and "holds the value 99" in loader.skipped[1]
    config.data.on_error = "raise"
    with pytest.raises(UserError, match="has no label"):
        build_loader(config, split)
