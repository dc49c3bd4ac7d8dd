"""Own data in COCO's JSON: what is read of files as tools write them, and what is said of those that are wrong."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_exports import CLASSES, LAYOUTS, content_of, cvat, drawn, of_coco, one_file, roboflow, write_json
from typed import present

from maskformer_ext.config import DataConfig
from maskformer_ext.data import build_dataset
from maskformer_ext.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder as CVAT exports it, four images for training and two for validation."""
    return cvat(tmp_path / "parts", drawn(4), drawn(2, first=4))


def _build(config: DataConfig, split: str) -> Any:
    """Return a split, whose reader has more than every data set has."""
    return build_dataset(config, split)


def _config(root: Path, **values: Any) -> DataConfig:
    return DataConfig(**{"name": "coco", "root": str(root), "task": "instance", "num_workers": 0, **values})


def _edit(root: Path, change: Callable[[dict[str, Any]], Any], subset: str = "Train") -> None:
    path = root / "annotations" / f"instances_{subset}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _names(dataset: Any, index: int = 0) -> list[str]:
    return [dataset.info.classes[label] for label in dataset[index].labels.tolist()]


# --- what is read


@pytest.mark.parametrize("tool", LAYOUTS)
def test_layouts_give_the_same_objects(tmp_path: Path, tool: str) -> None:
    root = LAYOUTS[tool](tmp_path, drawn(12), drawn(8, first=12))
    splits = [build_dataset(_config(root), split) for split in ("train", "val")]
    assert sum(map(len, splits)) == 20 and all(map(len, splits))
    for dataset in splits:
        assert dataset.info.classes == CLASSES and dataset.info.thing_classes == (0, 1)
        assert all(_names(dataset, index) == list(CLASSES) for index in range(len(dataset)))
    sample = splits[0][0]
    assert (sample.segment_map == 0).sum() == 24 * 20  # the box


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_objects_are_those_of_cocos_own_reader(data_dir: Path, tmp_path: Path, split: str) -> None:
    pictures = of_coco(data_dir / "coco_tiny", split, 6)
    dataset = _build(_config(cvat(tmp_path, pictures, pictures)), "train")
    coco = _build(DataConfig(name="coco_instance", root=str(data_dir / "coco_tiny"), task="instance"), split)
    theirs = {coco.records[index][3]: index for index in range(len(coco))}
    for index in range(len(dataset)):
        mine, other = dataset[index], coco[theirs[dataset.records[index][3]]]
        assert np.array_equal(mine.segment_map, other.segment_map)
        assert _names(dataset, index) == [coco.info.classes[label] for label in other.labels.tolist()]
        areas = [(true.area, true.crowd) for true in mine.scored().instances or ()]
        assert areas == [(true.area, true.crowd) for true in other.scored().instances or ()]


def test_the_background_is_a_class_where_the_task_knows_stuff(root: Path) -> None:
    dataset = _build(_config(root, task="semantic"), "train")
    assert dataset.info.classes == (*CLASSES, "background") and dataset.info.thing_classes == ()
    assert dataset[0].labels.tolist() == [0, 1, 2] and (dataset[0].segment_map >= 0).all()
    dataset = _build(_config(root, task="panoptic"), "train")
    assert dataset.info.thing_classes == (0, 1) and _names(dataset) == [*CLASSES, "background"]
    assert present(dataset.info.file_ids).categories == (1, 2, 0)
    dataset = _build(_config(root, task="semantic", background=""), "train")
    assert dataset.info.classes == CLASSES and (dataset[0].segment_map == -1).any()


def test_classes_of_both_files_count_by_their_names(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    def other_ids(content: dict[str, Any]) -> None:
        content["categories"] = [{"id": 9, "name": "nut"}, {"id": 4, "name": "bolt"}, {"id": 5, "name": "screw"}]
        for annotation in content["annotations"]:
            annotation["category_id"] = {1: 4, 2: 9}[annotation["category_id"]]

    _edit(root, other_ids, "Validation")
    train, val = (build_dataset(_config(root), split) for split in ("train", "val"))
    assert train.info == val.info and train.info.classes == ("bolt", "nut", "screw")
    assert _names(val) == list(CLASSES) and present(val.info.file_ids).categories == (4, 9, 5)
    assert "instances_Validation.json names 'screw'" in caplog.text


def test_a_category_that_groups_others_is_no_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = roboflow(tmp_path, drawn(2), drawn(2))
    assert build_dataset(_config(root), "train").info.classes == CLASSES
    assert "the category 0 (parts) is no class" in caplog.text
    for split in ("train", "valid"):  # where it has the name of the only class
        path = root / split / "_annotations.coco.json"
        content = json.loads(path.read_text())
        content["categories"] = [
            {"id": 0, "name": "bolt", "supercategory": "none"},
            {"id": 1, "name": "bolt", "supercategory": "bolt"},
        ]
        content["annotations"] = [one for one in content["annotations"] if one["category_id"] == 1]
        write_json(path, content)
    assert build_dataset(_config(root), "train").info.classes == ("bolt",)
    content["annotations"][0]["category_id"] = 0  # used in one of the files: a class, and then its name is there twice
    write_json(path, content)
    with pytest.raises(UserError, match="the categories 0 and 1 are both called 'bolt'"):
        build_dataset(_config(root), "train")


def test_what_tools_leave_out_or_write_otherwise(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    def change(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["id"] = str(image["id"])
        content["images"][0]["height"] = content["images"][0]["width"] = 0
        del content["images"][1]["height"]
        flat, outside, empty, box = (content["annotations"][index] for index in range(4))
        flat["segmentation"] = flat["segmentation"][0]
        outside["segmentation"] = [[90, 40, 200, 40, 200, 90, 90, 90], []]
        empty["segmentation"], box["segmentation"] = [[]], None
        content["annotations"][4]["id"] = content["annotations"][5]["id"] = 77
        for annotation in content["annotations"]:
            annotation.pop("iscrowd"), annotation.pop("bbox")
        del content["annotations"][6]["id"]
        content["annotations"][7]["category_id"] = 2.0

    _edit(root, change)
    dataset = _build(_config(root), "train")
    assert [len(dataset[index].labels) for index in range(4)] == [2, 0, 2, 2]
    assert (dataset[0].segment_map == 0).sum() == 480 and (dataset[0].segment_map == 1)[40:, 90:].all()
    assert present(dataset.info.file_ids).images["part_000"] == "0"
    assert (
        "left out 2 annotations without a mask" in caplog.text
        and "1 annotation ids occur more than once" in caplog.text
    )


def test_run_lengths_of_both_kinds_and_crowds(root: Path) -> None:
    from faster_coco_eval.core import mask as tools

    counts = [0, 64 * 10, 64 * 86]  # the first ten columns
    text = tools.frPyObjects({"size": [64, 96], "counts": counts}, 64, 96)["counts"].decode("ascii")

    def change(content: dict[str, Any]) -> None:
        first, second, third = content["annotations"][:3]
        first["segmentation"] = {"size": [64, 96], "counts": counts}
        second["segmentation"] = {"size": [64, 96], "counts": text}
        third.update(iscrowd=1)

    _edit(root, change)
    dataset = _build(_config(root), "train")
    assert present(dataset[0].masks).sum((1, 2)).tolist() == [640, 640]
    assert dataset[1].labels.tolist() == [1]
    assert [true.crowd for true in present(dataset[1].scored().instances)] == [True, False]


def test_a_split_is_drawn_by_names_and_keeps_its_images(tmp_path: Path) -> None:
    root = one_file(tmp_path, drawn(30))
    names = {
        split: set(present(build_dataset(_config(root, val_share=0.3), split).info.file_ids).images)
        for split in ("train", "val")
    }
    assert not names["train"] & names["val"] and len(names["train"] | names["val"]) == 30 and len(names["val"]) > 3
    one_file(tmp_path, drawn(60))
    assert names["val"] <= set(present(build_dataset(_config(root, val_share=0.3), "val").info.file_ids).images)
    with pytest.raises(UserError, match=r"my parts.json: none of its 60 images is for validation.*data.val_share=0"):
        build_dataset(_config(root, val_share=0.0), "val")


def test_files_and_folders_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, pictures in (("learn", drawn(3)), ("check", drawn(2, first=3))):
        write_json(tmp_path / "labels" / f"{split}.json", content_of(pictures, name=lambda name: f"C:\\set\\{name}"))
        for picture in pictures:
            picture.save(tmp_path / "photos" / split / picture.name)
    files = {"train_json": f"{tmp_path}/labels/learn.json", "val_json": f"{tmp_path}/labels/check.json"}
    folders = {"train_images": f"{tmp_path}/photos/learn", "val_images": f"{tmp_path}/photos/check"}
    given: dict[str, Any] = {**files, **folders}
    config = DataConfig(name="coco", task="instance", **given)
    assert [len(build_dataset(config, split)) for split in ("train", "val")] == [3, 2]
    below: dict[str, Any] = {key: path.removeprefix(f"{tmp_path}/") for key, path in (files | folders).items()}
    assert len(build_dataset(_config(tmp_path, **below), "val")) == 2
    assert len(build_dataset(_config(tmp_path, **{**below, "train_images": "", "val_images": ""}), "val")) == 2
    monkeypatch.chdir(tmp_path)
    assert len(build_dataset(DataConfig(name="coco", task="instance", **below), "train")) == 3


def test_images_that_are_nowhere_are_counted_once(root: Path) -> None:
    for number in (1, 2):
        (root / "images" / "Train" / f"part_00{number}.jpg").unlink()
    with pytest.raises(UserError) as error:
        build_dataset(_config(root), "train")
    assert "2 of its 4 images are not there, the first is part_001.jpg" in str(error.value)
    assert "data.on_error=skip" in str(error.value) and str(root / "images" / "Train") in str(error.value)
    dataset = _build(_config(root, on_error="skip"), "train")
    assert len(dataset) == 2 and len(dataset.problems) == 1


def test_one_name_in_two_folders_may_mean_either(tmp_path: Path) -> None:
    root = one_file(tmp_path, drawn(2))
    drawn(1)[0].save(root / "other" / "part_000.jpg")
    with pytest.raises(UserError, match=r"other/part_000.jpg and .*pictures/part_000.jpg are both called part_000.jpg"):
        build_dataset(_config(root), "train")
    assert len(build_dataset(_config(root, train_images="pictures", val_share=0.0), "train")) == 2


def test_names_that_lead_out_of_the_folder_stay_inside(root: Path, tmp_path: Path) -> None:
    drawn(1)[0].save(tmp_path / "secret.jpg")
    _edit(root, lambda content: content["images"][0].update(file_name="../../secret.jpg"))
    with pytest.raises(UserError, match=r"1 of its 4 images is not there, the first is ../../secret.jpg"):
        build_dataset(_config(root), "train")


# --- what can be wrong


def _first(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][0].update(values)


_OF_JSON: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "far outside": (_first(segmentation=[[700, 10, 800, 10, 800, 90]]), "annotation 0 of part_000.jpg lies outside of"),
    "much too far": (_first(segmentation=[[1, 1, 1e12, 1, 1, 9]]), "must lie in the image or near it"),
    "NaN": (
        _first(segmentation=[[1, 1, math.nan, 1, 1, 9]]),
        "annotation 0 of part_000.jpg has a coordinate that is no",
    ),
    "two points": (_first(segmentation=[[1, 1, 9, 9]]), "x and y of three points or more, got 4 numbers"),
    "unknown category": (
        _first(category_id=12),
        'has the category 12, which "categories" does not list: add it there (it lists 1, 2)',
    ),
    "unknown image": (_first(image_id=99), "annotation 0 is of image 99, which is not among"),
    "no image": (lambda content: content["annotations"][0].pop("image_id"), 'annotation 0 has no "image_id"'),
    "text": (_first(segmentation="none"), "must be a list or an object, got 'none'"),
    "turned run lengths": (_first(segmentation={"size": [96, 64], "counts": [6144]}), "their size is [96, 64], but"),
    "another size": (lambda content: content["images"][0].update(width=95), "is 96x64 pixels, but"),
    "same id": (lambda content: content["images"][1].update(id=0), "the image id 0 occurs twice"),
    "same file": (lambda content: content["images"][1].update(file_name="part_000.jpg"), "have one file"),
    "names twice": (lambda content: content["categories"][1].update(name="bolt"), "are both called 'bolt': rename one"),
    "no categories": (lambda content: content.pop("categories"), '"categories" must be a list of the classes'),
    "empty categories": (lambda content: content["categories"].clear(), "names no category"),
    "no annotation": (lambda content: content["annotations"].clear(), "has no annotation at all"),
    "no images": (lambda content: content["images"].clear(), "lists no image"),
    "boxes": (
        lambda content: [one.update(segmentation=[]) for one in content["annotations"]],
        "none of its 8 annotations has a mask, they are boxes",
    ),
    "captions": (
        lambda content: content.update(annotations=[{"id": 1, "image_id": 0, "caption": "nuts"}]),
        "holds captions, not objects",
    ),
    "other writing": (lambda content: content["categories"][0].update(name="Bolt"), "'Bolt' of"),
    "other classes": (
        lambda content: content.update(categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]),
        "name no common category ('a', 'b'; 'bolt', 'nut')",
    ),
}


@pytest.mark.parametrize("case", _OF_JSON)
def test_mistakes_are_named(root: Path, case: str) -> None:
    change, sentence = _OF_JSON[case]
    _edit(root, change)
    with pytest.raises(UserError) as error:
        build_dataset(_config(root), "train")[0]
    assert sentence in str(error.value) and "instances_Train.json" in str(error.value)
    assert "\n" not in str(error.value)


_OTHER_FILES = {
    "broken": ('{"images": [\n {"id": 1,,}], "annotations": []}', "is not valid JSON (Expecting property name"),
    "HTML": ("<!DOCTYPE html><html>sign in</html>", "is a web page or XML, not JSON"),
    "CSV": ("file,x,y\na.jpg,1,2\n", "looks like a table (CSV)"),
    "empty": ("", "is empty"),
    "a list": ('[{"a": 1}]', "holds a list, but annotations in the COCO format are an object"),
    "results": ('[{"image_id": 1, "score": 0.5}]', "holds a list of results, not annotations"),
    "LabelMe": ('{"shapes": [], "imagePath": "a.jpg"}', "is a LabelMe file"),
    "VIA": ('{"_via_img_metadata": {}}', "is a project of VIA"),
    "GeoJSON": ('{"type": "FeatureCollection", "features": []}', "is GeoJSON"),
    "an object": ('{"a": 1}', 'has no list "images"'),
    "no text": ("\ud800", "is not UTF-8 text"),
}


@pytest.mark.parametrize("case", _OTHER_FILES)
def test_other_files_are_told_apart(root: Path, case: str) -> None:
    text, sentence = _OTHER_FILES[case]
    path = root / "annotations" / "instances_Train.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError) as error:
        build_dataset(_config(root), "train")
    assert sentence in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)
    assert case != "broken" or "line 2 column 11" in str(error.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"train_json": "nowhere.json"}, "nowhere.json is missing: set data.train_json"),
        ({"train_json": "images"}, "images is a folder: set data.train_json"),
        ({"val_json": "a.json"}, "data.val_json is given without data.train_json"),
        ({"train_images": "nowhere"}, "nowhere is missing: set data.train_images"),
    ],
)
def test_paths_that_are_wrong(root: Path, values: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError) as error:
        build_dataset(_config(root, **values), "train")
    assert sentence in str(error.value)


def test_unknown_categories_are_skipped_with_their_image(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    _edit(root, _first(category_id=12))
    _edit(root, lambda content: content["annotations"][3].update(image_id=99))
    dataset = _build(_config(root, on_error="skip"), "train")
    assert len(dataset) == 4 and "is of image 99" in dataset.problems[0]
    with pytest.raises(UserError, match="has the category 12"):
        dataset[0]
    assert _names(dataset, 1) == ["bolt"]
