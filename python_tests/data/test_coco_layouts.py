"""COCO's JSON recognised from a folder alone: what is said of it, and what is not guessed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from coco_exports import CLASSES, LAYOUTS, content_of, cvat, drawn, one_file, roboflow, write_json

from maskformer_ext.config import DataConfig
from maskformer_ext.data import build_dataset
from maskformer_ext.data.formats import coco_peek
from maskformer_ext.data.recognition import load_run_config, recognise
from maskformer_ext.errors import UserError

_SAID = {
    "Roboflow": "as Roboflow exports it (train/_annotations.coco.json), 3 images for training and 2 for validation",
    "CVAT": "as CVAT exports it (annotations/instances_Train.json), 3 images for training and 2 for validation",
    "Label Studio": "as Label Studio exports it (result.json), 5 images without a split of their own (data.val_share",
    "FiftyOne": "as FiftyOne exports it (train/labels.json), 3 images for training and 2 for validation",
    "COCO": "as COCO has it (annotations/instances_train2031.json), 3 images for training and 2 for validation",
    "one file": "COCO JSON (my parts.json), 5 images without a split",
}


@pytest.mark.parametrize("tool", LAYOUTS)
def test_layouts_are_recognised(tmp_path: Path, tool: str) -> None:
    found = recognise(LAYOUTS[tool](tmp_path, drawn(3), drawn(2, first=3)))
    assert (found.name, found.task) == ("coco", "instance")
    assert _SAID[tool] in found.said and found.said.endswith(", 2 classes")


def test_large_files_are_not_parsed_and_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = roboflow(tmp_path, drawn(3), drawn(2))
    small = recognise(root)
    monkeypatch.setattr(coco_peek, "_SMALL", 0)
    monkeypatch.setattr(coco_peek, "read_json", None)
    assert recognise(root) == small
    path = root / "train" / "_annotations.coco.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(UserError, match=r"ends in the middle of its JSON"):
        recognise(root)


def test_test_images_validate_where_there_are_no_others(tmp_path: Path) -> None:
    root = roboflow(tmp_path, drawn(3), drawn(2))
    shutil.rmtree(root / "valid")
    assert "the test images validate" in recognise(root).said
    assert len(build_dataset(DataConfig(name="coco", root=str(root), task="instance"), "val")) == 1


def test_other_json_beside_it_is_left_alone(tmp_path: Path) -> None:
    root = one_file(tmp_path, drawn(3))
    write_json(root / "package.json", {"name": "x"})
    write_json(root / "labels" / "00.json", {"shapes": [], "imagePath": "a.jpg"})
    captions = [{"id": 0, "image_id": 0, "caption": "a nut"}]
    write_json(root / "captions.json", {**content_of(drawn(3)), "annotations": captions})
    assert recognise(root).name == "coco"


def test_several_files_for_a_split_are_not_guessed(tmp_path: Path) -> None:
    root = one_file(tmp_path, drawn(3))
    shutil.copy(root / "my parts.json", root / "other.json")
    with pytest.raises(
        UserError, match=r"2 annotation files for training \(my parts.json, other.json\): set data.train_json"
    ):
        recognise(root)
    shutil.move(root / "other.json", root / "val.json")
    with pytest.raises(UserError, match=r"\(my parts.json, val.json\), but none is called train"):
        recognise(root)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<html></html>", "is a web page"),
        ('{"images": [],\n"annotations": [}', "not valid JSON (Expecting value: line 2 column 17"),
        ("", "is empty"),
        ('{"images": [{}], "annotations": [{"caption": ""}]}', "holds no objects"),
    ],
)
def test_damaged_files_with_coco_in_their_names_are_named(tmp_path: Path, text: str, sentence: str) -> None:
    root = cvat(tmp_path, drawn(2), drawn(2))
    path = root / "annotations" / "instances_Train.json"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        recognise(root)
    assert sentence in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("name", ["labels.csv", "notes.json"])
def test_what_is_no_annotation_is_not_recognised(tmp_path: Path, name: str) -> None:
    drawn(1)[0].save(tmp_path / "a.jpg")
    (tmp_path / name).write_text("<html>" if name.endswith("json") else "a,b\n")
    with pytest.raises(UserError, match=rf"is not laid out as .* it holds a.jpg, {name}"):
        recognise(tmp_path)


def test_files_that_are_given_need_no_folder(tmp_path: Path) -> None:
    root = cvat(tmp_path, drawn(3), drawn(2))
    files = [
        f"data.{split}_json={root}/annotations/instances_{name}.json"
        for split, name in (("train", "Train"), ("val", "Validation"))
    ]
    config, found = load_run_config("folder", files)
    assert found is not None and "3 images for training and 2 for validation, 2 classes" in found.said
    assert config.data.name == "coco" and config.data.task == "instance" and config.data.root is None
    config, _ = load_run_config("folder", [*files, "data.name=coco", f"data.root={root}", "data.task=semantic"])
    assert config.data.task == "semantic" and build_dataset(config.data, "val").info.classes[:2] == CLASSES


def test_panoptic_files_of_own_classes(tmp_path: Path) -> None:
    from public_layouts import coco_panoptic

    coco_panoptic(tmp_path)
    for split in ("train", "val"):
        path = tmp_path / "annotations" / f"panoptic_{split}2017.json"
        content = json.loads(path.read_text())
        used = {one["category_id"] for entry in content["annotations"] for one in entry["segments_info"]}
        content["categories"] = [{"id": n, "name": f"kind {n}", "isthing": int(n == min(used))} for n in sorted(used)]
        path.write_text(json.dumps(content))
    found = recognise(tmp_path)
    assert (found.name, found.task) == ("coco", "panoptic") and "2 images for training" in found.said
    dataset = build_dataset(DataConfig(name="coco", root=str(tmp_path), task="panoptic"), "train")
    assert len(dataset) == 2 and dataset.info.classes[0].startswith("kind ") and dataset.info.thing_classes == (0,)
    config = DataConfig(
        name="coco", root=str(tmp_path), train_json="annotations/panoptic_train2017.json", val_share=0.5
    )
    halves = [build_dataset(config, split) for split in ("train", "val")]
    assert [len(half) for half in halves] == [1, 1] and halves[0][0].name != halves[1][0].name
    for half in halves:
        assert half.info.file_ids is not None and list(half.info.file_ids.images) == [half[0].name]
