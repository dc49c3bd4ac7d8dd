"""Random damage to every kind of file that a data set reads: it is read, or one sentence names what is wrong."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from label_files import bmp, pbm, pgm, png, tiff
from PIL import Image
from public_layouts import SIZE, coco_panoptic, coco_stuff, photograph, rows, save

from maskformer_ext.config import DataConfig
from maskformer_ext.data import build_dataset
from maskformer_ext.data.classes import read_classes_file
from maskformer_ext.data.formats.labels import read_color_ids, read_label
from maskformer_ext.errors import UserError

_STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3, 0.5, 1e300, float("nan"), float("inf"), 10**30, -(10**400), "", "a", "1", "\x00"),
    *("\x1b[31m", "\ud800", "../x", "/", [], {}, [[]], [None], {"id": 1}, [[[1]]], "x" * 5000, [1] * 50, {"": {}}),
)


def _places(value, path=()):
    """Return the path of everything inside a structure."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [place for key, inner in items for place in _places(inner, (*path, key))]


def _damage(content, random):
    """Return a copy with one to three entries replaced, removed or repeated."""
    content = copy.deepcopy(content)
    for _ in range(random.integers(1, 4)):
        places = _places(content)
        *path, key = places[random.integers(len(places))] or [None]
        strange = copy.deepcopy(_STRANGE[random.integers(len(_STRANGE))])
        if key is None:
            if random.random() < 0.1:
                return strange
            continue
        holder = content
        for step in path:
            holder = holder[step]
        kind = random.integers(4)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = strange
    return content


def _try(read, where):
    """Call a reader; return whether it refused, in one printable sentence."""
    try:
        read()
    except UserError as error:
        assert str(error) and "\n" not in str(error), where
        return True
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} instead of a sentence: {where!r:.400}") from error
    return False


def _read_all(config):
    dataset = build_dataset(config, "train")
    for index in range(len(dataset)):
        dataset[index]


def _check(read, path, content, seed, times=300):
    random = np.random.default_rng(seed)
    refused = 0
    for _ in range(times):
        forged = _damage(content, random)
        path.write_text(json.dumps(forged))
        refused += _try(read, forged)
    assert 0 < refused < times  # some damage does not matter


_INSTANCES = {
    "images": [{"id": n, "file_name": f"{name}.png", "height": 6, "width": 8} for n, name in enumerate("ab")],
    "annotations": [
        {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [[1, 1, 4, 1, 4, 4]], "iscrowd": 0, "area": 9},
        {"id": 2, "image_id": 1, "category_id": 2, "segmentation": {"size": [6, 8], "counts": [0, 6, 42]}},
        {"id": 3, "image_id": 1, "category_id": 1, "segmentation": {"size": [6, 8], "counts": "08X1"}, "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "ship", "color": [1, 2, 3]}, {"id": 2, "name": "buoy", "isthing": 1}],
}


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_instances(tmp_path, on_error):
    for name in "ab":
        photograph(tmp_path / "train2017" / f"{name}.png")
    path = tmp_path / "annotations/instances_train2017.json"
    path.parent.mkdir()
    path.write_text(json.dumps(_INSTANCES))
    config = DataConfig(name="coco_instance", root=str(tmp_path), task="instance", on_error=on_error)
    _read_all(config)
    _check(lambda: _read_all(config), path, _INSTANCES, seed=0)
    path.write_text(json.dumps(_INSTANCES))
    partner = path.with_name("instances_val2017.json")
    _check(lambda: _read_all(config), partner, _INSTANCES, seed=1, times=150)


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_panoptic(tmp_path, task):
    coco_panoptic(tmp_path)
    path = tmp_path / "annotations/panoptic_train2017.json"
    content = json.loads(path.read_text())
    content["categories"] = [{"id": 1, "name": "ship", "isthing": 1}, {"id": 200, "name": "sea", "isthing": 0}]
    config = DataConfig(name="coco_panoptic", root=str(tmp_path), task=task)
    _check(lambda: _read_all(config), path, content, seed=2)


def test_classes_files(tmp_path):
    content = {"classes": ["road", "car"], "colors": [[1, 2, 3], [4, 5, 6]], "things": ["car"], "stuff": ["road"]}
    content |= {"background": "road", "id_divisor": 100, "ignore_label": 255}
    path = tmp_path / "classes.json"
    _check(lambda: read_classes_file(path), path, content, seed=3)


@pytest.mark.parametrize("name", ["semantic_folder", "instance_folder"])
def test_folders_with_forged_classes(tmp_path, name):
    photograph(tmp_path / "train/images/a.png")
    save(tmp_path / "train/labels/a.png", rows(0, 1))
    content = {"things": ["car"], "stuff": ["road"], "id_divisor": 1, "ignore_label": 255}
    config = DataConfig(name=name, root=str(tmp_path), task="semantic")
    _check(lambda: _read_all(config), tmp_path / "classes.json", content, seed=4, times=200)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"images":' * 50_000, "\x00", "", "nul", '{"images": [], "annotations": []}']
)
def test_texts_that_are_no_annotations(tmp_path, text):
    (tmp_path / "train2017").mkdir()
    path = tmp_path / "annotations/instances_train2017.json"
    path.parent.mkdir()
    path.write_text(text)
    config = DataConfig(name="coco_instance", root=str(tmp_path), task="instance")
    assert _try(lambda: build_dataset(config, "train"), text[:40])
    (tmp_path / "classes.json").write_text(text)
    assert _try(lambda: read_classes_file(tmp_path / "classes.json"), text[:40])


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"caf\xe9\n", b""])
def test_bytes_that_are_no_text(tmp_path, content):
    for name in ("classes.txt", "classes.json", "labelmap.txt"):
        (tmp_path / name).write_bytes(content)
        assert _try(lambda path=tmp_path / name: read_classes_file(path), name)


def _label_files(folder):
    numbers = np.arange(35).reshape(5, 7) % 2
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(folder / "colour.png")
    Image.fromarray(numbers.astype(np.uint8)).save(folder / "a.gif")
    Image.fromarray(numbers.astype(np.uint8)).save(folder / "packed.tif", compression="tiff_lzw")
    return [
        *(png(folder / "2.png", numbers, 2), png(folder / "16.png", numbers, 16), png(folder / "p.png", numbers, 4)),
        *(pgm(folder / "a.pgm", numbers, 3), pgm(folder / "b.pgm", numbers, 9, plain=True), folder / "colour.png"),
        *(pbm(folder / "a.pbm", numbers), pbm(folder / "b.pbm", numbers, plain=True), folder / "packed.tif"),
        *(bmp(folder / "a.bmp", numbers, 4, shade=lambda n: n), tiff(folder / "a.tif", numbers, 2), folder / "a.gif"),
        *(tiff(folder / "b.tif", numbers, 12), tiff(folder / "c.tif", numbers, 4, photometric=3, orientation=6)),
    ]


@pytest.mark.parametrize("index", range(14))
def test_label_images(tmp_path, index, monkeypatch):
    monkeypatch.setenv("MASKFORMER_EXT_MAX_PIXELS", "1000000")  # a forged header may claim any size
    path = _label_files(tmp_path)[index]
    content, random = path.read_bytes(), np.random.default_rng(index)
    for _ in range(150):
        forged = bytearray(content)
        for place in random.integers(len(forged), size=random.integers(1, 4)):
            forged[place] = random.integers(256)
        if random.random() < 0.2:
            forged = forged[: random.integers(len(forged))]
        path.write_bytes(forged)
        _try(lambda: read_label(path), bytes(forged))
        _try(lambda: read_color_ids(path), bytes(forged))


def test_matlab_files_and_lists(tmp_path):
    root = coco_stuff(tmp_path)
    label = root / "annotations/COCO_train2014_000000000077.mat"
    config, content = DataConfig(name="coco_stuff_10k", root=str(root)), label.read_bytes()
    random, refused = np.random.default_rng(5), 0
    for _ in range(150):
        forged = bytearray(content)
        for place in random.integers(512, len(forged), size=random.integers(1, 6)):
            forged[place] = random.integers(256)
        label.write_bytes(forged if random.random() < 0.8 else forged[: random.integers(len(forged))])
        refused += _try(lambda: _read_all(config), "forged .mat")
    assert refused
    label.write_bytes(content)
    for names in (b"../images/COCO_train2014_000000000077\n", b"\xff\n", b"x" * 5000, b"a\0b", b"", b"no such image"):
        (root / "imageLists/train.txt").write_bytes(names)
        assert _try(lambda: _read_all(config), names)


def test_a_size_that_a_matlab_file_only_claims_takes_no_memory(tmp_path):
    h5py = pytest.importorskip("h5py")
    root = coco_stuff(tmp_path)
    with h5py.File(root / "annotations/COCO_train2014_000000000077.mat", "w", userblock_size=512) as file:
        file.create_dataset("S", (1 << 20, 1 << 20), "u1", chunks=(1024, 1024))
    with pytest.raises(UserError, match="the variable S cannot be read"):
        _read_all(DataConfig(name="coco_stuff_10k", root=str(root)))


def test_damaged_exif_is_skipped_or_read(tmp_path):
    photograph(tmp_path / "train/images/a.jpg")
    photograph(tmp_path / "train/images/b.png")
    for name in "ab":
        save(tmp_path / f"train/labels/{name}.png", np.zeros(SIZE, np.uint8))
    (tmp_path / "classes.txt").write_text("one\n")
    content = (tmp_path / "train/images/a.jpg").read_bytes()
    block = b"Exif\0\0II*\0" + bytes(np.random.default_rng(6).integers(0, 256, 60).astype(np.uint8))
    segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
    (tmp_path / "train/images/a.jpg").write_bytes(content[:2] + segment + content[2:])
    _read_all(DataConfig(name="semantic_folder", root=str(tmp_path), on_error="skip"))
