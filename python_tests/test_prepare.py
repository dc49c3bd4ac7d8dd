"""``prepare``: what it says of complete and incomplete folders, and what its conversions write."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from public_layouts import (
    ade20k,
    ade20k_full,
    cityscapes,
    coco_panoptic,
    coco_stuff,
    panoptic_ids,
    rows,
    save,
)
from typed import expect

from maskformer_ext.config import DataConfig
from maskformer_ext.data import build_dataset
from maskformer_ext.data.catalog import CATALOG, known_classes
from maskformer_ext.data.readers.pairs import PairedImages
from maskformer_ext.prepare import main

_STUFF_PNG = "annotations_detectron2/train/COCO_train2014_000000000077.png"


def _make(name, root):
    """Write both splits of a data set."""
    if name == "cityscapes":
        for split in ("train", "val"):
            cityscapes(root, rows(7, 33, 0), split)
    elif name == "ade20k_full":
        for split, stem in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
            ade20k_full(root, np.where(np.arange(600) < 300, 312, 2978)[None].repeat(514, axis=0), split, stem)
    else:
        maker = {"ade20k_panoptic": ade20k, "ade20k": ade20k, "coco_panoptic": coco_panoptic}
        maker.get(name, coco_stuff)(root)
    return root


def _run(capsys, *arguments):
    status = main([*map(str, arguments), "workers=0"])
    return status, *capsys.readouterr()


@pytest.mark.parametrize("name", ["ade20k-150", "ade20k_panoptic", "cityscapes", "coco_panoptic", "coco_stuff_10k"])
def test_a_complete_folder_is_ready(tmp_path, capsys, name):
    _make(name.removesuffix("-150"), tmp_path)
    status, out, err = _run(capsys, name, tmp_path, "convert=none")
    assert status == 0 and err == ""
    assert f"ready: data.name={name.removesuffix('-150')} data.root={tmp_path}" in out.splitlines()
    assert "train: " in out and "val: " in out and "0 problems" in out


@pytest.mark.parametrize(
    "name", ["ade20k", "ade20k_panoptic", "ade20k_full", "cityscapes", "coco_panoptic", "coco_stuff_10k"]
)
def test_classes_are_known_without_files(tmp_path, name):
    for task in CATALOG[name].tasks:
        dataset = build_dataset(DataConfig(name=name, task=task, root=str(_make(name, tmp_path))), "train")
        assert known_classes(name.replace("_", "-"), task) == dataset.info
    assert known_classes(name, "detection") is None and known_classes("digits", "semantic") is None


def test_every_missing_path_is_named(tmp_path, capsys):
    coco_panoptic(tmp_path)
    (tmp_path / "val2017").rename(tmp_path / "val")
    (tmp_path / "annotations/panoptic_val2017").rename(tmp_path / "annotations/other")
    (tmp_path / "annotations/panoptic_val2017.zip").touch()
    status, out, err = _run(capsys, "coco_panoptic", tmp_path)
    problems = err.splitlines()
    assert status == 1 and len(problems) == 2 and "2 of the 118287 images distributed, 2 read, 0 problems" in out
    assert f"{tmp_path}/val2017 is missing: expected the validation images (val2017.zip) there." in problems[0]
    assert f"Unpack {tmp_path}/annotations/panoptic_val2017.zip." in problems[1]
    assert "val: incomplete" in out and "ready" not in out
    assert _run(capsys, "coco_panoptic", tmp_path, "split=train")[0] == 0  # the other split is not asked for


def test_a_folder_inside_and_archives_that_are_still_packed_are_pointed_at(tmp_path, capsys):
    _make("cityscapes", tmp_path)
    assert f"{tmp_path} has all that is missing: give that folder" in _run(capsys, "cityscapes", tmp_path / "gtFine")[1]
    (tmp_path / "gtFine").rename(tmp_path / "other")
    (tmp_path / "gtFine_trainvaltest.zip").touch()
    status, out, err = _run(capsys, "cityscapes", tmp_path)
    assert status == 1 and "give that folder" not in out
    assert err.count(f"Unpack {tmp_path}/gtFine_trainvaltest.zip.") == 2


def test_wrong_files_are_named(tmp_path, capsys):
    _make("cityscapes", tmp_path)
    label = next((tmp_path / "gtFine/train").rglob("*labelIds.png"))
    save(label, rows(99))
    (next((tmp_path / "gtFine/val").rglob("*labelIds.png"))).unlink()
    status, _, err = _run(capsys, "cityscapes", tmp_path, f"report={tmp_path}/report.txt")
    assert status == 1 and f"{label} holds the value 99" in err and "holds no leftImg8bit.png with a label" in err
    assert "_leftImg8bit.png has no label: expected" in err
    assert (tmp_path / "report.txt").read_text().count("\n") == err.count("problem: ") == 2
    assert _run(capsys, "cityscapes", tmp_path, "split=train", "files=0")[0] == 0  # not read, so not seen


@pytest.mark.parametrize("name", ["ade20k_full", "coco_stuff_10k"])
def test_conversions_that_load_faster_give_the_same_samples(tmp_path, capsys, name):
    _make(name, tmp_path)
    config = DataConfig(name=name, root=str(tmp_path))
    before = [build_dataset(config, split)[0] for split in ("train", "val")]
    status, out, err = _run(capsys, name, tmp_path)
    assert (status, err) == (0, "") and not list(tmp_path.rglob("*.partial")) and out.count("written") == 2
    for split, old in zip(("train", "val"), before, strict=True):
        dataset = build_dataset(config, split)
        assert "detectron2" in str(expect(PairedImages, dataset).pairs[0][2])
        assert np.array_equal(dataset[0].segment_map, old.segment_map) and np.array_equal(dataset[0].labels, old.labels)
        assert dataset[0].name.endswith(old.name.rsplit("/", 1)[-1]) and dataset[0].image.shape == old.image.shape
    assert "are there" in _run(capsys, name, tmp_path)[1]


def test_an_interrupted_conversion_goes_on(tmp_path, capsys):
    root = coco_stuff(tmp_path)
    done = root / _STUFF_PNG.replace("/train/", "/train.partial/")
    save(done, rows(5))
    assert build_dataset(DataConfig(name="coco_stuff_10k", root=str(root)), "train")[0].labels.tolist() == [0, 170]
    assert _run(capsys, "coco_stuff_10k", root)[0] == 0
    assert (np.array(Image.open(root / _STUFF_PNG)) == 5).all()  # kept, not made again


def test_a_failed_conversion_leaves_no_complete_folder(tmp_path, capsys):
    root = coco_stuff(tmp_path)
    next((root / "annotations").glob("*77.mat")).write_bytes(b"no MATLAB file")
    status, out, err = _run(capsys, "coco_stuff_10k", root, "files=0")
    assert status == 1 and "77.mat is no MATLAB 7.3" in err and "not finished" in out
    assert not (root / "annotations_detectron2/train").exists() and (root / "annotations_detectron2/test").is_dir()


def test_conversions_for_other_tools(tmp_path, capsys):
    for name in ("ade20k", "cityscapes", "coco_panoptic"):
        assert _run(capsys, name, _make(name, tmp_path / name), "convert=all")[0] == 0
    assert np.array_equal(
        np.array(Image.open(tmp_path / "ade20k/annotations_detectron2/validation/ADE_val_00000001.png")),
        np.array(Image.open(tmp_path / "ade20k/annotations/validation/ADE_val_00000001.png")) - np.uint8(1),
    )
    train_ids = next((tmp_path / "cityscapes/gtFine/val").rglob("*_gtFine_labelTrainIds.png"))
    assert np.array(Image.open(train_ids))[:4, 0].tolist() == [0, 18, 255, 255]
    semantic = np.array(Image.open(tmp_path / "coco_panoptic/panoptic_semseg_train2017/000000000012.png"))
    expected = np.select([panoptic_ids() == 0, panoptic_ids() == 4_000_000], [255, 132], 0)
    assert np.array_equal(semantic, expected)


def test_panoptic_files_of_ade20k_hold_the_same_segments(tmp_path, capsys):
    root = ade20k(tmp_path)
    config = DataConfig(name="ade20k_panoptic", root=str(root), task="panoptic")
    before = build_dataset(config, "val")[0]
    assert _run(capsys, "ade20k_panoptic", root, "convert=all")[0] == 0
    content = json.loads((root / "ade20k_panoptic_val.json").read_text())
    assert [s["area"] for s in content["annotations"][0]["segments_info"]] == [7, 8, 6, 9]
    assert content["annotations"][0]["segments_info"][1]["bbox"] == [0, 2, 4, 2] and len(content["categories"]) == 150
    (root / "annotations_instance").rename(root / "elsewhere")
    after = build_dataset(config, "val")[0]
    assert np.array_equal(after.segment_map, before.segment_map) and np.array_equal(after.labels, before.labels)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["imagenet", "."], "unknown data set 'imagenet': expected one of ade20k"),
        (["camvi", "."], "unknown data set 'camvi' (did you mean camvid?): expected one of"),
        (["ade20k"], "ade20k is a data set: give its folder too, as in prepare ade20k ROOT"),
        (["ade20k", "/no/such/folder"], "the folder /no/such/folder is missing"),
        (["ade20k", ".", "split=test"], "split must be one of both, train, val, got 'test'"),
        (["ade20k", ".", "files=some"], "files must be all or a whole number, at least 0, got 'some'"),
        (["ade20k", ".", "file=1"], "did you mean 'files'?"),
        (["ade20k", ".", "data.root=x"], "is not a key of this command"),
    ],
)
def test_mistakes_in_the_arguments_are_named(capsys, arguments, sentence):
    assert main(arguments) == 2 and sentence in capsys.readouterr().err


def test_help(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "maskformer-ext prepare NAME ROOT" in text and "(ade20k_full, coco_stuff_10k)" in text
