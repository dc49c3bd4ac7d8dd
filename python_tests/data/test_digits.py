"""The embedded data set: deterministic, disjoint splits, targets of the three tasks."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from maskformer_ext.data.readers import digits
from maskformer_ext.data.readers.digits import CLASSES, DIGIT_CLASSES, STUFF_CLASSES, DigitsDataset, generate
from maskformer_ext.errors import UserError

_PHOTOGRAPHS = {CLASSES.index("flower"), CLASSES.index("pagoda")}  # JPEG files: decoders may differ by one grey level


def test_images_are_the_same_on_every_machine():
    """A changed digest means that every digits score published so far belongs to other images."""
    shapes, pixels = hashlib.sha256(), hashlib.sha256()
    for split in ("train", "val"):
        for index in range(24):
            image, segment_map, labels = generate(split, index)
            shapes.update(segment_map.astype("<i4").tobytes() + labels.astype("<i8").tobytes())
            if not _PHOTOGRAPHS & set(labels.tolist()):
                pixels.update(image.tobytes())
    assert shapes.hexdigest() == "744fec48712d20d04ef9959eeeae392f40369fab25b6445450be67998d229e37"
    assert pixels.hexdigest() == "95cff3e0618a32d7f706dfcbd82fae816e360353f99d1284cd876d6e2d1b09b0"


def test_sample_depends_on_seed_split_and_index_alone():
    first = generate("train", 5, seed=1)
    generate("val", 9)
    again = generate("train", 5, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (generate("train", 6, seed=1), generate("val", 5, seed=1), generate("train", 5, seed=2)):
        assert not np.array_equal(first[0], other[0])


def test_splits_share_neither_scan_nor_texture():
    scans = {
        split: {scan.tobytes() for of_digit in digits._scans(split) for scan in of_digit} for split in ("train", "val")
    }
    assert not scans["train"] & scans["val"]
    assert len(scans["train"]) > 1400 and len(scans["val"]) > 350
    for stuff in range(len(STUFF_CLASSES)):
        train, val = digits._texture("train", stuff), digits._texture("val", stuff)
        columns = {train[:, x].tobytes() for x in range(train.shape[1])}
        assert not columns & {val[:, x].tobytes() for x in range(val.shape[1])}


@pytest.mark.parametrize("size", [64, 128, 200, 320])
def test_segments_cover_the_image_and_digits_stay_visible(size):
    for index in range(6):
        image, segment_map, labels = generate("train", index, image_size=size)
        assert image.shape == (size, size, 3) and image.dtype == np.uint8
        areas = np.bincount(segment_map.ravel(), minlength=len(labels))
        assert segment_map.min() == 0 and len(areas) == len(labels) and areas.min() > 0
        assert 1 <= (labels >= len(DIGIT_CLASSES)).sum() <= 4 and 1 <= (labels < len(DIGIT_CLASSES)).sum() <= 4
        assert areas[labels < len(DIGIT_CLASSES)].min() > 0.007 * size * size


def test_every_class_occurs():
    seen = set()
    for index in range(120):
        seen.update(generate("val", index)[2].tolist())
    assert seen == set(range(len(CLASSES)))


def test_tasks_describe_the_same_pixels():
    samples = {task: DigitsDataset("val", task=task, length=4)[3] for task in ("semantic", "instance", "panoptic")}
    panoptic, semantic, instance = samples["panoptic"], samples["semantic"], samples["instance"]
    assert torch.equal(panoptic.label_map(), semantic.label_map())
    assert len(semantic.labels.unique()) == len(semantic.labels)
    digit = panoptic.label_map() < len(DIGIT_CLASSES)
    assert torch.equal(instance.segment_map >= 0, digit)
    assert torch.equal(instance.label_map()[digit], panoptic.label_map()[digit])
    assert len(instance.labels) == int((panoptic.labels < len(DIGIT_CLASSES)).sum())
    assert panoptic.image.shape == (3, 128, 128) and panoptic.segment_map.dtype == torch.int32


@pytest.mark.parametrize(
    ("task", "classes", "things"), [("semantic", 16, 0), ("instance", 10, 10), ("panoptic", 16, 10)]
)
def test_info_follows_the_task(task, classes, things):
    info = DigitsDataset("train", task=task).info
    assert info.num_classes == classes == len(info.colors) == len(set(info.colors))
    assert info.thing_classes == tuple(range(things))


def test_arguments_out_of_range_are_refused():
    with pytest.raises(UserError, match="image_size"):
        DigitsDataset("train", image_size=32)
    with pytest.raises(UserError, match="num_train"):
        DigitsDataset("train", length=0)
    with pytest.raises(IndexError):
        DigitsDataset("train", length=3)[3]


def test_fine_classes_name_digit_texture_and_size_of_the_same_images():
    plain, fine = (DigitsDataset("val", task="semantic", length=4, fine_classes=flag) for flag in (False, True))
    assert len(fine.info.classes) == 126 and fine.info.classes[-6:] == STUFF_CLASSES
    seen = set()
    for index in range(4):
        image, segment_map, labels = generate("val", index)
        same, same_map, fine_labels = generate("val", index, fine_classes=True)
        assert np.array_equal(image, same) and np.array_equal(segment_map, same_map)
        textures = {STUFF_CLASSES[label - 10] for label in labels.tolist() if label >= 10}
        for label, fine_label in zip(labels.tolist(), fine_labels.tolist(), strict=True):
            name = fine.info.classes[fine_label]
            if label >= 10:
                assert name == plain.info.classes[label]
                continue
            size, digit, _, texture = name.split()
            assert digit == str(label) and texture in textures
            seen.add(size)
    assert seen == {"small", "large"}
    assert len(DigitsDataset("val", task="instance", length=1, fine_classes=True).info.classes) == 120
