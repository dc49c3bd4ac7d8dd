"""Annotation files in COCO's format that name categories of their own, and annotations without a mask."""

from __future__ import annotations

import json

import numpy as np
import pytest
from public_layouts import SIZE, photograph, rows, save

from maskformer_ext.config import DataConfig
from maskformer_ext.data import build_dataset
from maskformer_ext.data.formats.coco_masks import expand_counts, rasterise
from maskformer_ext.data.listing import sample_names
from maskformer_ext.errors import UserError

_SHIPS = [{"id": 1, "name": "ship"}, {"id": 2, "name": "buoy"}]


def _annotation(number, category, *, image=7, **more):
    square = [number, number, number + 2, number, number + 2, number + 2, number, number + 2]
    return {"id": number, "image_id": image, "category_id": category, "segmentation": [square], **more}


def _write(root, categories, annotations=(), *, split="train", files=("harbour.png",)):
    """Write the images and the annotation file of a split."""
    images = []
    for number, name in enumerate(files, start=7):
        photograph(root / f"{split}2017" / name)
        images.append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
    content = {"images": images, "annotations": list(annotations)}
    content |= {} if categories is None else {"categories": categories}
    path = root / "annotations" / f"instances_{split}2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def _build(root, split="train", name="coco_instance", task="instance", **more):
    return build_dataset(DataConfig(name=name, root=str(root), task=task, **more), split)


def _found(dataset, index=0):
    return [dataset.info.classes[label] for label in dataset[index].labels.tolist()]


# --- whose categories they are


def test_the_categories_of_a_file_are_its_classes(tmp_path, caplog):
    colored = [{"id": 2, "name": "buoy", "color": "#ff8000"}, {"id": 1, "name": "ship", "color": [1, 2, 3]}]
    _write(tmp_path, colored, [_annotation(1, 1), _annotation(4, 2)])
    dataset = _build(tmp_path)
    assert dataset.info.classes == ("ship", "buoy") and dataset.info.thing_classes == (0, 1)
    assert dataset.info.colors == ((1, 2, 3), (255, 128, 0)) and _found(dataset) == ["ship", "buoy"]
    assert dataset.info.file_ids.categories == (1, 2) and dataset.info.file_ids.images == {"harbour": 7}
    assert "has 2 categories of its own, which are the classes: ship, buoy" in caplog.messages[0]


@pytest.mark.parametrize(
    "categories",
    [
        None,
        [],
        [{"id": 1, "name": "person"}],
        [{"id": 4, "name": "Motorcycle", "isthing": 1}, {"id": 1, "name": "person"}],
        [{"id": 1, "name": "person"}, {"id": 200, "name": "rug-merged", "isthing": 0}],
    ],
)
def test_categories_of_coco_are_its_classes(tmp_path, categories):
    _write(tmp_path, categories, [_annotation(1, 1)])
    dataset = _build(tmp_path)
    assert dataset.info.num_classes == 80 and _found(dataset) == ["person"]
    assert dataset.info.file_ids.categories[:3] == (1, 2, 3) and dataset.info.file_ids.categories[79] == 90


@pytest.mark.parametrize(
    "categories",
    [
        [{"id": 1, "name": "person"}, {"id": 2, "name": "ship"}],  # 2 is the bicycle in COCO
        [{"id": 0, "name": "person"}, {"id": 7, "name": "car"}],  # as tools write that count from 0
        [{"id": 1, "name": "person"}, {"id": 91, "name": "ship"}],
        [{"id": 1, "name": "person", "isthing": 0}, {"id": 2, "name": "bicycle"}],
    ],
)
def test_one_category_that_is_not_that_of_coco_makes_all_the_files_own(tmp_path, categories):
    last = categories[-1]
    _write(tmp_path, categories, [_annotation(1, last["id"])])
    dataset = _build(tmp_path)
    things = [category["name"] for category in categories if category.get("isthing", 1)]
    assert list(dataset.info.classes) == things and _found(dataset) == [last["name"]]


def test_categories_of_two_splits_go_by_name(tmp_path):
    _write(tmp_path, _SHIPS, [_annotation(1, 2)])
    _write(tmp_path, [{"id": 1, "name": "buoy"}, {"id": 2, "name": "ship"}], [_annotation(1, 2)], split="val")
    train, val = _build(tmp_path), _build(tmp_path, "val")
    assert train.info == val.info and _found(train) == ["buoy"] and _found(val) == ["ship"]
    assert train.info.classes == ("buoy", "ship")
    assert train.info.file_ids.categories == (2, 1) and val.info.file_ids.categories == (1, 2)


@pytest.mark.parametrize("fewer", ["train", "val"])
def test_the_file_that_names_more_categories_decides(tmp_path, fewer):
    for split in ("train", "val"):
        _write(tmp_path, _SHIPS[1:] if split == fewer else _SHIPS, [_annotation(1, 2)], split=split)
    train, val = _build(tmp_path), _build(tmp_path, "val")
    assert (
        train.info == val.info and train.info.classes == ("ship", "buoy") and _found(train) == _found(val) == ["buoy"]
    )


def test_a_file_of_coco_beside_one_of_ships_has_its_classes(tmp_path):
    _write(tmp_path, [{"id": 1, "name": "person"}], [_annotation(1, 1)])
    _write(tmp_path, [{"id": 1, "name": "person"}, {"id": 2, "name": "ship"}], split="val")
    assert _build(tmp_path).info.classes == _build(tmp_path, "val").info.classes == ("person", "ship")


@pytest.mark.parametrize("split", ["train", "val"])
def test_splits_that_disagree_are_refused(tmp_path, split):
    paths = [_write(tmp_path, _SHIPS), _write(tmp_path, [_SHIPS[0], {"id": 2, "name": "boat"}], split="val")]
    with pytest.raises(UserError, match="the category 2 is") as error:
        _build(tmp_path, split)
    assert all(word in str(error.value) for word in ("'buoy'", "'boat'", *map(str, paths)))


def test_splits_that_disagree_about_things_are_refused(tmp_path):
    _write(tmp_path, [{**_SHIPS[0], "isthing": 1}, _SHIPS[1]])
    _write(tmp_path, [{**_SHIPS[0], "isthing": 0}, _SHIPS[1]], split="val")
    with pytest.raises(UserError, match="\"isthing\" of the category 'ship' differs between"):
        _build(tmp_path)


def test_a_list_of_the_same_name_elsewhere_in_a_partner_is_none_of_its_categories(tmp_path):
    _write(tmp_path, _SHIPS)
    path = _write(tmp_path, [*_SHIPS, {"id": 3, "name": "pier"}], split="val")
    content = {
        "info": {"categories": []},
        "licenses": [{"categories": [{"of": "use"}]}],
        **json.loads(path.read_text()),
    }
    path.write_text(json.dumps(content))
    assert _build(tmp_path).info.classes == ("ship", "buoy", "pier")


def test_a_damaged_partner_is_no_matter_of_this_split(tmp_path):
    _write(tmp_path, _SHIPS, [_annotation(1, 1)])
    (tmp_path / "annotations/instances_val2017.json").write_text('{"categories": [')
    assert _found(_build(tmp_path)) == ["ship"]


@pytest.mark.parametrize(
    ("categories", "sentence"),
    [
        ("ships", '"categories" must be a list, got str'),
        ([3], 'category 3 has no "id"'),
        ([{"name": "ship"}], 'has no "id"'),
        ([{"id": 1}], 'category 1 has no "name"'),
        ([{"id": 1, "name": " "}], "the name of category 1 is empty"),
        ([{"id": 1.5, "name": "ship"}], '"id" of category 1.5 must be'),
        ([{"id": 1, "name": ["ship"]}], '"name" of category 1 must be text'),
        ([{"id": 1, "name": "ship"}, {"id": 1, "name": "buoy"}], "the category id 1 stands for 'ship' and 'buoy'"),
        ([{"id": 1, "name": "ship"}, {"id": 2, "name": "ship"}], "the categories 1 and 2 are both called 'ship'"),
        ([{"id": 1, "name": "ship", "isthing": "yes"}], '"isthing" of category 1 must be 0 or 1'),
        ([{"id": 1, "name": "ship", "isthing": 0}], "there is no instance"),
    ],
)
def test_mistakes_in_categories_are_named(tmp_path, categories, sentence):
    path = _write(tmp_path, categories)
    with pytest.raises(UserError) as error:
        _build(tmp_path)
    assert sentence in str(error.value) and str(path) in str(error.value)


def _write_panoptic(root, categories, segments, *, name="panoptic_train2017", folder="annotations", images="train2017"):
    photograph(root / images / "day/a.jpg")
    ids = rows(*range(1, len(segments) + 1))
    save(root / folder / name / "day/a.png", ids[..., None] * np.array([1, 0, 0], np.uint8))
    info = [{"id": number, "category_id": category} for number, category in enumerate(segments, start=1)]
    content = {
        "images": [{"id": "first", "file_name": "day/a.jpg", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [{"image_id": "first", "file_name": "day/a.png", "segments_info": info}],
        "categories": categories,
    }
    (root / folder / f"{name}.json").write_text(json.dumps(content))


_HARBOUR = [{"id": 5, "name": "sea", "isthing": 0}, {"id": 3, "name": "ship", "isthing": 1}]


@pytest.mark.parametrize(("task", "expected"), [("panoptic", (3, 5)), ("instance", (3,)), ("semantic", (3, 5))])
def test_panoptic_categories_of_a_file(tmp_path, task, expected):
    _write_panoptic(tmp_path, _HARBOUR, [3, 5, 3])
    dataset = _build(tmp_path, name="coco_panoptic", task=task)
    assert dataset.info.classes == ("ship", "sea")[: len(expected)] and dataset.info.file_ids.categories == expected
    assert dataset.info.file_ids.images == {"day/a": "first"} and dataset[0].name == "day/a"
    assert _found(dataset) == {"panoptic": ["ship", "sea", "ship"], "instance": ["ship"] * 2}.get(task, ["ship", "sea"])
    assert dataset.info.thing_classes == (() if task == "semantic" else (0,))


@pytest.mark.parametrize(
    ("categories", "task", "sentence"),
    [
        ([{"id": 5, "name": "sea"}], "panoptic", 'the category 5 (sea) has no "isthing"'),
        ([{"id": 5, "name": "sea", "isthing": 0}], "instance", 'no category has "isthing": 1'),
    ],
)
def test_panoptic_categories_say_what_is_a_thing(tmp_path, categories, task, sentence):
    _write_panoptic(tmp_path, categories, [5])
    with pytest.raises(UserError) as error:
        _build(tmp_path, name="coco_panoptic", task=task)
    assert sentence in str(error.value)


def test_converted_files_of_ade20k_may_name_their_own(tmp_path):
    paths = {"name": "ade20k_panoptic_train", "folder": ".", "images": "images/training"}
    _write_panoptic(tmp_path, _HARBOUR, [3, 5], **paths)
    assert _build(tmp_path, name="ade20k_panoptic", task="panoptic").info.classes == ("ship", "sea")
    _write_panoptic(tmp_path, [{"id": 0, "name": "wall", "isthing": 0}, {"id": 7, "name": "bed"}], [0, 7], **paths)
    dataset = _build(tmp_path, name="ade20k_panoptic", task="panoptic")
    assert dataset.info.num_classes == 150 and _found(dataset) == ["wall", "bed"]


# --- what images are called


def test_images_keep_their_folders_and_ids(tmp_path):
    files = ("7.png", "day/7.png", "night/7.png", "a.png", "a.jpg", "plain")
    _write(tmp_path, _SHIPS, files=files[:-1])
    dataset = _build(tmp_path)
    assert [sample.name for sample in dataset] == ["7", "day/7", "night/7", "a.png", "a.jpg"]
    assert dataset.info.file_ids.images == {"7": 7, "day/7": 8, "night/7": 9, "a.png": 10, "a.jpg": 11}


def test_a_size_that_is_turned_names_the_key(tmp_path):
    path = _write(tmp_path, _SHIPS, [_annotation(1, 1)])
    content = json.loads(path.read_text())
    content["images"][0] |= {"height": SIZE[1], "width": SIZE[0]}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"One of them is turned: .* data\.exif=false"):
        _build(tmp_path)[0]


@pytest.mark.parametrize("other", ["day/a.png", "day\\a.png", "./day/a.png"])
def test_two_images_of_one_file_are_refused(tmp_path, other):
    _write(tmp_path, _SHIPS, [_annotation(1, 1)], files=("day/a.png", other))
    with pytest.raises(UserError, match=r"the images 7 and 8 have one file, .*a\.png"):
        _build(tmp_path)


def test_names_that_only_endings_tell_apart_stay_apart():
    assert sample_names(["a.jpg", "a.png", "a.jpg.png", "b.tif"]) == ["a.jpg", "a.png", "a.jpg.png", "b"]


def test_folders_of_windows_are_folders(tmp_path):
    path = _write(tmp_path, _SHIPS, files=("day/a.png",))
    path.write_text(path.read_text().replace("day/a.png", r"day\\a.png"))
    assert _build(tmp_path)[0].name == "day/a"


@pytest.mark.parametrize("name", ["/etc/passwd", "../train2017/harbour.png", ""])
def test_images_outside_the_folder_are_refused(tmp_path, name):
    path = _write(tmp_path, _SHIPS)
    path.write_text(path.read_text().replace('"harbour.png"', json.dumps(name)))
    with pytest.raises(UserError, match=r"must be a path below .*train2017"):
        _build(tmp_path)


# --- annotations without a mask


@pytest.mark.parametrize("segmentation", [[], None, [[]], "missing"])
def test_boxes_are_left_out_and_counted(tmp_path, caplog, segmentation):
    box = _annotation(2, 1, segmentation=segmentation)
    if segmentation == "missing":
        del box["segmentation"]
    path = _write(tmp_path, _SHIPS, [box, _annotation(4, 2)])
    assert _found(_build(tmp_path)) == ["buoy"]
    assert f"{path}: left out 1 annotation without a mask (2 of harbour.png)" in caplog.messages[-1]
    path = _write(tmp_path, _SHIPS, [box, {**box, "id": 3}])
    with pytest.raises(UserError, match="none of its 2 annotations has a mask, they are boxes"):
        _build(tmp_path)


_RLE = {"size": [6, 8]}


@pytest.mark.parametrize(
    ("segmentation", "sentence"),
    [
        ([[1, 1, 2, 2]], "three points or more, got 4 numbers"),
        ([[1, 1, 2, 2, 3, 1, 5]], "three points or more, got 7 numbers"),
        ([[1, 1, 2, 2, 3, "1"]], "a polygon must be a list of numbers"),
        ([[1, 1, 2, 2, 3, True]], "a polygon must be a list of numbers"),
        ([[[1, 1], [2, 2], [3, 1]]], "a polygon must be a list of numbers"),
        ([1, 1, 2, 2, 3, 1], "a polygon must be a list of numbers"),
        ([[1, 1, 2, 2, 3, float("nan")]], "must lie in the image or near it"),
        ([[1, 1, 2, 2, 3, float("-inf")]], "must lie in the image or near it"),
        ([[1, 1, 2, 2, 3, -(10**400)]], "must lie in the image or near it"),
        ({**_RLE}, '"size" and "counts"'),
        ({**_RLE, "counts": None}, "counts must be text or a list of whole numbers"),
        ({**_RLE, "counts": [48.0]}, "counts must be text or a list of whole numbers"),
        ({**_RLE, "counts": [50, -2]}, "counts must be text or a list of whole numbers"),
        ({**_RLE, "counts": [40, 7]}, "add up to 47 pixels, but the image has 48"),
        ({**_RLE, "counts": [10**30]}, "pixels, but the image has 48"),
        ({**_RLE, "counts": "0"}, "add up to 0 pixels"),
        ({**_RLE, "counts": "\u00e9"}, "must not hold the character"),
        ({**_RLE, "counts": "oo"}, "end within a number"),
        ({"size": [8, 6], "counts": [48]}, "their size is [8, 6], but the image's is [6, 8]"),
    ],
)
def test_masks_that_are_none_are_named(tmp_path, segmentation, sentence):
    path = _write(tmp_path, _SHIPS, [_annotation(2, 1, segmentation=segmentation)])
    with pytest.raises(UserError) as error:
        _build(tmp_path)[0]
    assert sentence in str(error.value) and f"{path}: the segmentation of annotation 2 " in str(error.value)


def test_compressed_run_lengths_are_those_of_the_reference():
    coco_masks = pytest.importorskip("pycocotools.mask", reason="pycocotools is the reference here")
    random = np.random.default_rng(0)
    for density in (0, 0.02, 0.5, 1):
        mask = np.asfortranarray(random.random((70, 90)) < density, np.uint8)
        counts = coco_masks.encode(mask)["counts"].decode()
        runs = np.diff(np.flatnonzero(np.diff(mask.ravel("F"), prepend=0, append=2)), prepend=0)
        assert expand_counts(counts) == runs.tolist()
        assert np.array_equal(rasterise({"size": [70, 90], "counts": counts}, (70, 90))[1], mask)
        assert np.array_equal(rasterise({"size": [70, 90], "counts": runs.tolist()}, (70, 90))[1], mask)
