"""Data sets of Hugging Face `datasets`: on the disk, as parquet, and what is said where they do not fit."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_exports import CLASSES, drawn
from tables_saved import label_rows, mask_rows, object_rows, png
from typed import present

from maskformer_ext.config import Config, DataConfig, TrainConfig
from maskformer_ext.data import build_dataset, build_loader
from maskformer_ext.data.recognition import load_run_config, recognise
from maskformer_ext.errors import UserError

datasets = pytest.importorskip("datasets")
_NAMES = {"0": "table", "1": "bolt", "2": "nut"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what `datasets` writes, and whatever it would download, out of the home folder and the network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def _features(kind: str) -> Any:
    image, text = datasets.Image(), datasets.Value("string")
    if kind == "labels":
        return datasets.Features({"image": image, "label": image})
    if kind == "masks":
        return datasets.Features({"image": image, "masks": datasets.List(image), "categories": datasets.List(text)})
    number = datasets.Value("float32")
    fields = {
        "category": datasets.ClassLabel(names=list(CLASSES)),
        "bbox": datasets.List(number, length=4),
        "segmentation": datasets.List(datasets.List(number)),
    }
    return datasets.Features({"image_id": datasets.Value("int64"), "image": image, "objects": datasets.List(fields)})


_ROWS = {"labels": label_rows, "masks": mask_rows, "objects": object_rows}


def _save(root: Path, kind: str, *, train: int = 4, val: int = 2, split: str = "validation") -> Path:
    splits = {"train": _ROWS[kind](drawn(train)), split: _ROWS[kind](drawn(val, first=train))}
    saved = {name: datasets.Dataset.from_list(rows, features=_features(kind)) for name, rows in splits.items()}
    datasets.DatasetDict(saved).save_to_disk(str(root))
    if kind == "labels":
        (root / "id2label.json").write_text(json.dumps(_NAMES))
    return root


def _parquet(root: Path, rows: list[dict[str, Any]], *names: str, features: Any = None) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if features is not None:
            datasets.Dataset.from_list(rows, features=features).to_parquet(str(root / name))
        else:
            import pyarrow as pa
            import pyarrow.parquet as parquet

            parquet.write_table(pa.Table.from_pylist(rows), root / name)
    return root


def _config(root: Path, **values: Any) -> DataConfig:
    return DataConfig(**{"name": "huggingface", "root": str(root), "task": "semantic", "num_workers": 0, **values})


# --- what is read


def test_label_images_saved_to_disk(tmp_path: Path) -> None:
    root = _save(tmp_path / "set", "labels")
    found = recognise(root)
    assert (found.name, found.task) == ("huggingface", "semantic")
    assert "saved by save_to_disk, 4 images for training and 2 for validation, images in 'image'" in found.said
    train, val = (build_dataset(_config(root), split) for split in ("train", "val"))
    assert (len(train), len(val)) == (4, 2) and train.info.classes == ("table", *CLASSES) and train.info == val.info
    sample = train[0]
    assert sample.name == "part_000" and sample.labels.tolist() == [0, 1, 2] and sample.size == (64, 96)
    assert int((sample.segment_map == 1).sum()) == 25 * 21 and sample.image.shape == (3, 64, 96)


@pytest.mark.parametrize("kind", ["objects", "masks"])
def test_objects_saved_to_disk(tmp_path: Path, kind: str) -> None:
    root = _save(tmp_path / "set", kind)
    assert recognise(root).task == "instance"
    dataset = build_dataset(_config(root, task="instance"), "train")
    assert dataset.info.classes == CLASSES and dataset.info.thing_classes == (0, 1)
    assert dataset[0].labels.tolist() == [0, 1] and int((dataset[0].segment_map == 0).sum()) in (24 * 20, 25 * 21)
    panoptic = build_dataset(_config(root, task="panoptic"), "val")
    assert panoptic.info.classes == (*CLASSES, "background") and panoptic[0].labels.tolist() == [0, 1, 2]
    if kind == "objects":
        assert present(dataset.info.file_ids).images["100"] == 100 and present(dataset.info.file_ids).categories == (
            0,
            1,
        )


def test_parquet_as_the_hub_exports_it(tmp_path: Path) -> None:
    features = _features("labels")
    root = _parquet(tmp_path / "set", label_rows(drawn(3)), "data/train-00000-of-00002.parquet", features=features)
    _parquet(root, label_rows(drawn(2)), "data/train-00001-of-00002.parquet", features=features)
    _parquet(root, label_rows(drawn(2)), "data/test-00000-of-00001.parquet", features=features)
    (root / "data" / "id2label.json").write_text(json.dumps(_NAMES))
    assert "as parquet files, 5 images for training and 2 for validation (its split test)" in recognise(root).said
    dataset = build_dataset(_config(root), "train")
    assert [dataset[index].labels.tolist() for index in range(5)] == [[0, 1, 2]] * 5
    assert dataset[3].name == "000003"  # as the paths of the images are not unique


def test_parquet_of_others_with_plain_bytes(tmp_path: Path) -> None:
    rows = [{"pixel_values": row["image"]["bytes"], "mask": row["label"]["bytes"]} for row in label_rows(drawn(20))]
    root = _parquet(tmp_path / "set", rows, "train.parquet")
    (root / "classes.txt").write_text("bolt\nnut\n")
    assert (
        "20 images without a split of their own (data.val_share draws one), images in 'pixel_values'"
        in recognise(root).said
    )
    splits = [build_dataset(_config(root, ignore_label=0, val_share=0.4), split) for split in ("train", "val")]
    assert sum(map(len, splits)) == 20 and min(map(len, splits)) > 1
    assert splits[0][0].labels.tolist() == [0, 1] and bool((splits[0][0].segment_map == -1).any())


def test_objects_as_lists_in_one_object(tmp_path: Path) -> None:
    rows = []
    for row in object_rows(drawn(3)):
        objects = {key: [one[key] for one in row["objects"]] for key in ("category", "segmentation")}
        rows.append(
            {"image": row["image"], "objects": {**objects, "category": [f"kind {n}" for n in objects["category"]]}}
        )
    root = _parquet(tmp_path / "set", rows, "train.parquet", "validation.parquet")
    dataset = build_dataset(_config(root, task="instance"), "val")
    assert dataset.info.classes == ("kind 0", "kind 1") and dataset[1].labels.tolist() == [0, 1]


def test_labels_from_1_and_void(tmp_path: Path) -> None:
    root = _save(tmp_path / "set", "labels")
    (root / "id2label.json").write_text(json.dumps({"1": "bolt", "2": "nut"}))
    dataset = build_dataset(_config(root), "train")
    assert dataset.info.classes == CLASSES and dataset[0].labels.tolist() == [0, 1]
    (root / "id2label.json").write_text(json.dumps(_NAMES))
    dataset = build_dataset(_config(root, ignore_label=0), "train")
    assert dataset.info.classes == CLASSES and bool((dataset[0].segment_map == -1).any())


def test_one_name_for_two_numbers_stays_two_classes(tmp_path: Path) -> None:
    root = _save(tmp_path / "set", "labels")
    (root / "id2label.json").write_text(json.dumps({"0": "table", "1": "screen", "2": "screen"}))
    assert build_dataset(_config(root), "train").info.classes == ("table", "screen", "screen (2)")


def test_columns_can_be_named(tmp_path: Path) -> None:
    rows = [{"left": row["image"], "right": row["image"], "truth": row["label"]} for row in label_rows(drawn(2))]
    image = datasets.Image()
    features = datasets.Features({"left": image, "right": image, "truth": image})
    root = _parquet(tmp_path / "set", rows, "train.parquet", "val.parquet", features=features)
    (root / "id2label.json").write_text(json.dumps(_NAMES))
    config = _config(root, image_column="right", label_column="truth")
    assert build_dataset(config, "train")[0].labels.tolist() == [0, 1, 2]
    with pytest.raises(UserError, match=r"has no column 'colour' \(data.image_column\): its columns are left, right"):
        build_dataset(_config(root, image_column="colour"), "train")


def test_worker_processes_read_the_same(tmp_path: Path) -> None:
    config = Config(data=_config(_save(tmp_path / "set", "labels"), num_workers=2))
    config.train = TrainConfig(max_iters=2, batch_size=2)
    config.data.augmentation.crop_size, config.data.augmentation.min_sizes = [32, 32], []
    by_workers = [batch.pixels for batch in build_loader(config, "train")]
    config.data.num_workers = 0
    assert all(map(np.array_equal, by_workers, [batch.pixels for batch in build_loader(config, "train")]))
    assert pickle.loads(pickle.dumps(build_dataset(config.data, "val")))[0].labels.tolist() == [0, 1, 2]


def test_recognition_needs_no_torch(tmp_path: Path) -> None:
    root = _save(tmp_path / "set", "labels")
    code = f"""
import sys
from pathlib import Path
from maskformer_ext.data.recognition import recognise
assert recognise(Path({str(root)!r})).name == "huggingface"
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


# --- what can be wrong


def _boxes(root: Path) -> Path:
    rows = [
        {"image": row["image"], "objects": [{"category": 0, "bbox": [0.0, 0, 1, 1]}]} for row in label_rows(drawn(1))
    ]
    return _parquet(root, rows, "train.parquet")


def _strange(root: Path) -> Path:
    _save(root, "labels")
    (root / "id2label.json").write_text('{"0": "table", "1": "bolt"}')
    return root


def _without_names(root: Path) -> Path:
    _save(root, "labels")
    (root / "id2label.json").unlink()
    return root


def _other_size(root: Path) -> Path:
    rows = label_rows(drawn(1))
    rows[0]["label"]["bytes"] = png(np.zeros((8, 8), np.uint8))
    (_parquet(root, rows, "train.parquet", "val.parquet") / "classes.txt").write_text("a\nb\n")
    return root


def _empty_label(root: Path) -> Path:
    rows = label_rows(drawn(2))
    rows[0]["label"] = None
    (_parquet(root, rows, "train.parquet", "val.parquet") / "classes.txt").write_text("a\nb\nc\n")
    return root


def _no_parquet(root: Path) -> Path:
    root.mkdir()
    (root / "train.parquet").write_text("a,b\n1,2\n")
    return root


def _truncated(root: Path) -> Path:
    _save(root, "labels")
    for path in (root / "train").glob("*.arrow"):
        path.write_bytes(path.read_bytes()[:300])
    return root


def _text_only(root: Path) -> Path:
    return _parquet(root, [{"text": "a", "label": 1}], "train.parquet")


def _label_numbers(root: Path) -> Path:
    return _parquet(root, [{"image": label_rows(drawn(1))[0]["image"], "label": 1}], "train.parquet")


def _far_outside(root: Path) -> Path:
    rows = object_rows(drawn(1))
    rows[0]["objects"][1]["segmentation"] = [[500.0, 5, 520, 5, 520, 30]]
    return _parquet(root, rows, "train.parquet", "val.parquet", features=_features("objects"))


def _only_test(root: Path) -> Path:
    _parquet(root, label_rows(drawn(1)), "validation.parquet", "test.parquet")
    return root


_MISTAKES = {
    _boxes: "the objects in its column 'objects' have boxes, but no masks",
    _strange: "holds the value 2 (row",
    _without_names: "nothing names the classes of its label images: put id2label.json",
    _other_size: "is 8x8 pixels, but its image",
    _empty_label: "'label' is empty",
    _no_parquet: "train.parquet cannot be read as parquet",
    _truncated: "train cannot be read",
    _text_only: "has no column of images: its columns are text, label; set data.image_column",
    _label_numbers: "has no labels that are known: it has image, label; data.label_column must name",
    _far_outside: "object 1 lies outside of its image, which is 96x64 pixels",
    _only_test: "has no split for training: it has test, validation",
}


@pytest.mark.parametrize("make", _MISTAKES, ids=lambda make: make.__name__.strip("_"))
def test_mistakes_are_named(tmp_path: Path, make: Any) -> None:
    root = make(tmp_path / "set")
    with pytest.raises(UserError) as error:
        found = recognise(root)
        build_dataset(_config(root, task=found.task), "train")[0]
    assert _MISTAKES[make] in str(error.value) and str(root) in str(error.value) and "\n" not in str(error.value)
    assert "/proc/" not in str(error.value)


def test_instances_need_objects(tmp_path: Path) -> None:
    root = _save(tmp_path / "set", "labels")
    with pytest.raises(UserError, match=r"tell no objects apart, so that data.task must be semantic, got instance"):
        build_dataset(_config(root, task="instance"), "train")


def test_the_hub_without_a_network_is_one_sentence() -> None:
    sentence = r"the data set nobody/parts cannot be had from the Hugging Face hub \(.*\): check its name"
    with pytest.raises(UserError, match=sentence):
        load_run_config("folder", ["data.name=huggingface", "data.root=nobody/parts"])
    with pytest.raises(UserError, match=sentence):
        build_dataset(_config(Path("nobody/parts")), "train")
