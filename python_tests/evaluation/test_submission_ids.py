"""Whose ids a submission holds: those of the annotation file, never what a file happens to be called."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskformer_ext.config import DataConfig
from maskformer_ext.data.build import build_dataset
from maskformer_ext.data.preparing.writers import WriteFlat, WriteLabels, WritePanoptic
from maskformer_ext.data.readers.pairs import PairedImages
from maskformer_ext.data.types import DatasetInfo, FileIds
from maskformer_ext.errors import UserError
from maskformer_ext.evaluation.submission import create_writer
from maskformer_ext.ops.instance_inference import Instances

_SIZE = (6, 8)
_IMAGES = {501: "street.jpg", "x-7": "COCO_val2014_000000000502.jpg", 503: "7.jpg", 2**60: "more/7.jpg"}


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _dataset(root: Path, kind: str, categories: list[dict[str, Any]]) -> Any:
    """Build a validation split whose every image is one segment of the first category."""
    annotations: list[dict[str, Any]] = []
    folder, first = root / "annotations" / "panoptic_val2017", categories[0]["id"]
    for number, (image_id, name) in enumerate(_IMAGES.items(), start=1):
        _save(root / "val2017" / name, np.zeros((*_SIZE, 3), np.uint8))
        png = f"{Path(name).with_suffix('')}.png"
        _save(folder / png, np.full((*_SIZE, 3), (1, 0, 0), np.uint8))
        if kind == "instance":
            mask = {"size": list(_SIZE), "counts": [0, 48]}
            own = {"id": number, "category_id": first, "segmentation": mask}
        else:
            own = {"file_name": png, "segments_info": [{"id": 1, "category_id": first}]}
        annotations.append({"image_id": image_id, **own})
    sizes = {"height": _SIZE[0], "width": _SIZE[1]}
    images = [{"id": number, "file_name": name, **sizes} for number, name in _IMAGES.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    name = {"instance": "instances", "panoptic": "panoptic"}[kind]
    (root / "annotations" / f"{name}_val2017.json").write_text(json.dumps(content))
    return build_dataset(DataConfig(name=f"coco_{kind}", root=str(root), task=kind), "val")


def _semantic(value: int = 0) -> Any:
    return SimpleNamespace(class_map=torch.full(_SIZE, value))


def _panoptic(category: int = 0) -> Any:
    segments = [{"id": 1, "category_id": category}]
    return SimpleNamespace(segment_map=torch.ones(_SIZE, dtype=torch.int32), segments_info=segments)


def _instance(label: int = 0) -> Instances:
    packed = torch.from_numpy(np.packbits(np.ones((1, *_SIZE), bool), axis=-1, bitorder="little"))
    box = torch.tensor([[0.0, 0.0, 8.0, 6.0]])
    return Instances(torch.ones(1), torch.tensor([label]), box, packed, size=_SIZE)


def _info(count: int, ids: FileIds | None = None) -> DatasetInfo:
    info = DatasetInfo("own", tuple(f"class {k}" for k in range(count)), ((9, 9, 9),) * count, tuple(range(count)))
    return info if ids is None else info.with_file_ids(ids)


_OWN = [{"id": 44, "name": "ship", "isthing": 1}, {"id": 7, "name": "buoy", "isthing": 1}]
_COCO = [{"id": 1, "name": "person", "isthing": 1}]


@pytest.mark.parametrize(("categories", "category"), [(_OWN, 44), (_COCO, 1)])
@pytest.mark.parametrize("kind", ["instance", "panoptic"])
def test_ids_are_those_of_the_annotation_file(
    tmp_path: Path, kind: str, categories: list[dict[str, Any]], category: int
) -> None:
    dataset = _dataset(tmp_path, kind, categories)
    writer = create_writer(f"coco_{kind}", tmp_path / "results", dataset.info)
    make: Any = _instance if kind == "instance" else _panoptic
    for index in reversed(range(len(dataset))):
        sample = dataset[index]
        writer.write(index, sample.name, make(int(sample.labels[0])))
    content = json.loads(writer.finish().read_text())
    entries = content if kind == "instance" else content["annotations"]
    assert [entry["image_id"] for entry in entries] == [501, 503, 2**60, "x-7"]
    found = [entry.get("category_id") or entry["segments_info"][0]["category_id"] for entry in entries]
    assert found == [category] * 4
    if kind == "panoptic":
        files = [entry["file_name"] for entry in entries]
        assert files == ["street.png", "7.png", "more/7.png", "COCO_val2014_000000000502.png"]
        assert all((tmp_path / "results/panoptic_results" / file).is_file() for file in files)


def test_the_format_of_ade20k_panoptic_takes_them_too(tmp_path: Path) -> None:
    ids = FileIds(tuple(range(1000, 1150)), {"day/a": "the first"})
    writer = create_writer("ade20k_panoptic", tmp_path, _info(150, ids))
    writer.write(0, "day/a", _panoptic(3))
    (entry,) = json.loads(writer.finish().read_text())["annotations"]
    assert (entry["image_id"], entry["file_name"]) == ("the first", "day/a.png")
    assert entry["segments_info"] == [{"id": 1, "category_id": 1003}]
    with pytest.raises(UserError, match="the image 'b' is not in the annotation file"):
        writer.write(1, "b", _panoptic())


@pytest.mark.parametrize(
    ("format", "count"), [("ade20k", 3), ("coco_panoptic", 3), ("coco_instance", 3), ("ade20k_panoptic", 150)]
)
def test_names_keep_their_folders(tmp_path: Path, format: str, count: int) -> None:
    writer = create_writer(format, tmp_path, _info(count))
    results = {"ade20k": _semantic, "coco_instance": _instance}
    for index, name in enumerate(("day/a", "night/a", "a.jpg")):
        writer.write(index, name, results.get(format, _panoptic)(index))
    writer.finish()
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    folder = "" if format == "ade20k" else "panoptic_results/"
    assert found == ([] if format == "coco_instance" else [f"{folder}{n}.png" for n in ("a", "day/a", "night/a")])
    if format == "ade20k":
        values = [int(np.array(Image.open(tmp_path / f"{name}.png"))[0, 0]) for name in ("day/a", "night/a", "a")]
        assert values == [1, 2, 3]


@pytest.mark.parametrize(
    ("format", "count", "names"),
    [
        ("ade20k", 3, ("a.jpg", "a.png")),
        ("cityscapes", 19, ("ulm/a_leftImg8bit", "bonn/a_leftImg8bit")),
        ("mapillary_vistas", 65, ("day/a", "night/a")),
        ("coco_panoptic", 3, ("a.jpg", "a.png")),
        ("coco_panoptic", 3, ("day/7", "night/7")),
        ("coco_instance", 3, ("day/7", "night/07")),
        ("coco_instance", 3, ("2", "a")),
        ("ade20k_panoptic", 150, ("a.jpg", "a")),
    ],
)
@pytest.mark.parametrize("processes", [1, 2])
def test_two_results_of_one_file_or_id_are_refused(
    tmp_path: Path, format: str, count: int, names: tuple[str, str], processes: int
) -> None:
    writers = [create_writer(format, tmp_path, _info(count)) for _ in range(processes)]
    make: Any = {"semantic": _semantic, "panoptic": _panoptic, "instance": _instance}[writers[0].task]
    with pytest.raises(UserError, match="would both have the") as error:
        for index, name in enumerate(names):
            writers[index % processes].write(index, name, make())
        writers[0].merge(writers[-1].state())
    assert all(repr(name) in str(error.value) for name in names)


@pytest.mark.parametrize("name", ["../a", "/tmp/a", "a/../../b", "..", ""])
@pytest.mark.parametrize("format", ["ade20k", "coco_panoptic", "coco_instance"])
def test_results_stay_in_their_folder(tmp_path: Path, format: str, name: str) -> None:
    writer = create_writer(format, tmp_path / "results", _info(3))
    make: Any = {"semantic": _semantic, "panoptic": _panoptic, "instance": _instance}[writer.task]
    with pytest.raises(UserError, match="must be a path below the folder of the results"):
        writer.write(0, name, make())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_ids_of_files_are_neither_compared_nor_saved() -> None:
    plain, known = _info(3), _info(3, FileIds((1, 2, 3), {"a": 1}))
    assert plain == known and "file_ids" not in dataclasses.asdict(known) and plain.file_ids is None


# --- conversions, which name files after samples too


class _Paired(PairedImages):
    """Enough of a data set for conversions."""

    info = _info(3)

    def __init__(self, *names: str) -> None:
        pairs = [(name, Path(f"{name}.JPEG"), Path(f"{name}.png")) for name in names]
        super().__init__(pairs, [], skip_errors=False, where="")


def test_conversions_keep_folders_or_refuse(tmp_path: Path) -> None:
    dataset = _Paired("day/a", "night/a", "b.c")
    labels = WriteLabels(dataset, tmp_path)
    found = [labels.target(index).relative_to(tmp_path).as_posix() for index in range(3)]
    assert found == ["day/a.png", "night/a.png", "b.c.png"]
    with pytest.raises(UserError, match="day/a and night/a would be converted to one file"):
        WriteFlat(dataset, tmp_path)
    assert WriteFlat(_Paired("day/a", "night/b"), tmp_path).target(1) == tmp_path / "b.png"
    assert WritePanoptic(dataset, tmp_path)._image(0, "day/a") == "day/a.JPEG"
