"""ADE20K-150 and its panoptic form: what values mean, and the real photographs."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from public_layouts import ADE_SPLITS, SIZE, ade20k, ade_instances, ade_labels, save

from maskformer_ext.config import DataConfig
from maskformer_ext.data import build_dataset
from maskformer_ext.errors import UserError


@pytest.fixture
def root(tmp_path):
    """One image in each split."""
    return ade20k(tmp_path)


def _build(root, name="ade20k", task="semantic", **more):
    return build_dataset(DataConfig(name=name, root=str(root), task=task, **more), "train")


def test_semantic_labels_count_from_one(root):
    dataset = _build(root, "ade20k-150")
    assert dataset.info.num_classes == 150 and dataset.info.ignore_label == 255 and dataset.info.thing_classes == ()
    assert dataset.info.classes[0] == "wall" and dataset.info.colors[149] == (92, 0, 255)
    assert dataset[0].labels.tolist() == [0, 7, 149] and dataset[0].name == "ADE_train_00000001"
    assert np.array_equal(dataset[0].label_map().numpy(), np.where(ade_labels() == 0, 255, ade_labels() - 1.0))


def test_shifted_labels_are_read_where_there_are_no_others(root):
    shifted = ade_labels() - np.uint8(1)
    for folder, name in ADE_SPLITS.values():
        save(root / "annotations_detectron2" / folder / f"{name}.png", shifted)
    (root / "annotations").rename(root / "elsewhere")
    assert np.array_equal(_build(root)[0].label_map().numpy(), shifted)


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_instances_lie_over_stuff(root, task):
    dataset = _build(root, "ade20k_panoptic", task)
    sample = dataset[0]
    things = {"panoptic": 100, "instance": 100, "semantic": 0}[task]
    assert len(dataset.info.thing_classes) == things and dataset.info.num_classes == (
        100 if task == "instance" else 150
    )
    names = [dataset.info.classes[label] for label in sample.labels.tolist()]
    assert (
        names
        == {
            "panoptic": ["wall", "bed", "bed", "flag"],
            "instance": ["bed", "bed", "flag"],
            "semantic": ["wall", "bed", "flag"],
        }[task]
    )
    owner = sample.segment_map.numpy()
    assert (owner[0] == -1).all() and (owner[2:4, 4] == -1).all() and (owner[5] == -1).all()  # a thing without instance
    assert owner[1, 7] == owner[4, 0] == len(names) - 1
    assert (owner[1, 0] == -1) == (task == "instance") and (owner[2, 0] == owner[2, 5]) == (task == "semantic")


def test_converted_panoptic_files_are_read_where_there_are_no_others(root):
    (root / "annotations_instance").rename(root / "elsewhere")
    ids = np.zeros((*SIZE, 3), np.uint8)
    ids[1], ids[3] = (5, 0, 0), (0, 1, 0)
    save(root / "ade20k_panoptic_train" / "ADE_train_00000001.png", ids)
    content = {
        "images": [{"id": "ADE_train_00000001", "file_name": "ADE_train_00000001.jpg", "height": 6, "width": 8}],
        "annotations": [
            {
                "image_id": "ADE_train_00000001",
                "file_name": "ADE_train_00000001.png",
                "segments_info": [{"id": 5, "category_id": 0}, {"id": 256, "category_id": 149}],
            }
        ],
    }
    (root / "ade20k_panoptic_train.json").write_text(json.dumps(content))
    dataset = _build(root, "ade20k_panoptic", "panoptic")
    assert [dataset.info.classes[label] for label in dataset[0].labels.tolist()] == ["wall", "flag"]


@pytest.mark.parametrize(
    ("name", "damage", "sentence"),
    [
        ("ade20k", lambda a, i: save(a, np.full(SIZE, 151, np.uint8)), "holds the value 151 (row 0, column 0)"),
        ("ade20k", lambda a, i: save(a, np.zeros((6, 9), np.uint8)), "but its image"),
        ("ade20k", lambda a, i: save(a, ade_instances()), "has the mode RGB"),
        ("ade20k", lambda a, i: a.unlink(), "has no label: expected"),
        ("ade20k_panoptic", lambda a, i: save(i, np.full((*SIZE, 3), 101, np.uint8)), "holds the value 101"),
        ("ade20k_panoptic", lambda a, i: save(i, np.zeros((6, 9, 3), np.uint8)), "is 9x6 pixels"),
        ("ade20k_panoptic", lambda a, i: save(i, ade_labels()), "has the mode L"),
        ("ade20k_panoptic", lambda a, i: i.unlink(), "ADE_train_00000001.png is missing"),
    ],
)
def test_mistakes_are_named(root, name, damage, sentence):
    folder, stem = ADE_SPLITS["train"]
    damage(*(root / kind / folder / f"{stem}.png" for kind in ("annotations", "annotations_instance")))
    with pytest.raises(UserError) as error:
        _build(root, name, _TASKS[name])[0]
    assert sentence in str(error.value) and stem in str(error.value) and "\n" not in str(error.value)


_TASKS = {"ade20k": "semantic", "ade20k_panoptic": "panoptic"}


def test_a_missing_folder_is_named(root):
    (root / "annotations_instance").rename(root / "elsewhere")
    with pytest.raises(UserError, match="annotations_instance/training is missing"):
        _build(root, "ade20k_panoptic", "panoptic")


def test_real_photographs(data_dir, tmp_path):
    source = data_dir / "ade_sample3"
    for kind in ("images", "annotations"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "validation").symlink_to(source / kind)
    dataset = build_dataset(DataConfig(name="ade20k", root=str(tmp_path)), "val")
    lines = (source / "objectInfo150.csv").read_text().splitlines()[1:]
    assert len(dataset) == 3 and len(lines) == 150
    for ours, line in zip(
        dataset.info.classes, lines, strict=True
    ):  # the file says "traffic;light" for "traffic light"
        assert set(re.split(r"\W+", ours)) & set(re.split(r"\W+", line.split(",", 5)[5]))
    for index in range(3):
        raw = np.array(Image.open(source / "annotations" / f"{dataset[index].name}.png")).astype(np.int64)
        assert np.array_equal(dataset[index].label_map().numpy(), np.where(raw == 0, 255, raw - 1))
