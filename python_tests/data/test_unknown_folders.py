"""What is said of folders that no format fits, and of folders above several data sets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from coco_exports import cvat, drawn, one_file
from folder_sets import squares, write_folder

from maskformer_ext.data.layouts.unknown import look_at
from maskformer_ext.data.recognition import recognise
from maskformer_ext.errors import UserError


def _masks(root: Path) -> Path:
    return write_folder(root, "a\nb\nc\n", lambda generator, split, number: squares(1, 2))


def test_a_folder_above_several_data_sets_is_none_itself(tmp_path: Path) -> None:
    cvat(tmp_path / "street", drawn(2), drawn(2, first=2))
    assert recognise(tmp_path).name == "coco"  # an archive unpacked in a folder of its own
    _masks(tmp_path / "cells")
    with pytest.raises(UserError, match=r"holds 2 data sets: cells \(semantic_folder\), street \(coco\). Give one, as"):
        recognise(tmp_path)
    assert recognise(tmp_path, "coco").name == "coco"  # of which there is one


def test_a_data_set_may_have_others_below_it(tmp_path: Path) -> None:
    one_file(tmp_path, drawn(2))
    _masks(tmp_path / "old masks")
    assert recognise(tmp_path).name == "coco"


def test_a_data_set_one_folder_below_is_named(tmp_path: Path) -> None:
    _masks(tmp_path / "pets")
    with pytest.raises(UserError, match=r"holds one: pets \(semantic_folder\). Give that folder, as \S+/pets\.$"):
        recognise(tmp_path)


def test_a_damaged_format_hides_none_that_fits(tmp_path: Path) -> None:
    one_file(tmp_path, drawn(2))
    (tmp_path / "data.yaml").write_text("train: images\n")
    with pytest.raises(UserError, match=r"fits data.name=coco \(.*It looks like data.name=yolo, too.*has no 'names'"):
        recognise(tmp_path)
    assert recognise(tmp_path, "coco").name == "coco"


def test_files_are_no_folders(tmp_path: Path) -> None:
    for name, says in (("a.zip", "is an archive: unpack it"), ("data.yaml", f"perhaps {tmp_path}")):
        (tmp_path / name).write_text("")
        with pytest.raises(UserError, match=says):
            recognise(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("1.json", {"image": {}, "annotations": [{"segmentation": {}, "predicted_iou": 0.9}]}, "of Segment Anything"),
        ("project.json", [{"id": 1, "annotations": [{"result": []}]}], "Label Studio's own JSON: export the project"),
        ("meta.json", {"classes": [{"title": "cat", "shape": "polygon"}]}, "is Supervisely's JSON: export it as"),
        ("via.json", {"_via_settings": {}}, "VIA's own JSON"),
        ("annotations.xml", "<?xml version='1.0'?><annotations><image id='0'></image></annotations>", "CVAT's own XML"),
        ("Annotations/1.xml", "<annotation><object/></annotation>", "holds boxes, which are no masks"),
        ("train.csv", "MaskPath,ImageID\n", "one mask for each object, as Open Images does"),
        ("train.csv", "ImageId,EncodedPixels\n", "masks as text: write them as PNG"),
        ("list.json", [{"id": 1}], "is of no known kind: COCO's JSON is an object with images"),
        ("wide.json", "\ufeff{".encode("utf-16-le"), "is UTF-16 text: save it as UTF-8"),
        ("obj.names", "cat\n", "is of darknet's YOLO: export polygons"),
        ("train/metadata.jsonl", "{}\n", "Hugging Face's image folders: load it by datasets"),
        ("photos.zip", "", "is an archive: unpack it first"),
        ("a.npy", "", "array of NumPy: save images and masks as PNG"),
        ("images/1.jpg", "", "nothing labels them: add their masks"),
    ],
)
def test_exports_that_are_not_read_are_named(tmp_path: Path, name: str, content: object, says: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=says):
        recognise(tmp_path)


def test_folders_that_may_not_be_opened_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "masks").mkdir()
    access = os.access  # root may open everything, so that modes of files prove nothing
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "masks" and access(path, mode))
    with pytest.raises(UserError, match=r"the folder \S+/masks cannot be read"):
        recognise(tmp_path)


def test_an_error_of_the_disk_is_one_sentence(tmp_path: Path) -> None:
    def look(root: Path) -> None:
        raise PermissionError(13, "Permission denied", str(root / "masks"))

    with pytest.raises(UserError, match=r"\S+/masks cannot be read: Permission denied\.$"):
        look_at(tmp_path, look)
