"""Small public data sets in the layouts as distributed, written by the tests."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

SIZE = (6, 8)  # height, width
ADE_SPLITS = {"train": ("training", "ADE_train_00000001"), "val": ("validation", "ADE_val_00000001")}
STUFF_NAMES = {"train": "COCO_train2014_000000000077", "test": "COCO_train2014_000000000154"}
PANOPTIC_IDS = (7, 70_000, 4_000_000)
_PANOPTIC_CATEGORIES = (1, 1, 200)  # two persons, rug-merged


def save(path, pixels):
    """Write an image, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def photograph(path, size=SIZE):
    """Write a grey photograph."""
    save(path, np.full((*size, 3), 90, np.uint8))


def rows(*values, dtype=np.uint8):
    """Return a map with one row for each value, the last one in all that are left."""
    column = [*values, *[values[-1]] * (SIZE[0] - len(values))]
    return np.repeat(np.array(column, dtype)[:, None], SIZE[1], axis=1)


def ade_labels():
    """Other, wall (class 0), bed (class 7, a thing), flag (class 149, a thing)."""
    labels = np.zeros(SIZE, np.uint8)
    labels[1], labels[2:4], labels[4:] = 1, 8, 150
    return labels


def ade_instances():
    """Two beds, and a flag that reaches over the wall."""
    instances = np.zeros((*SIZE, 3), np.uint8)
    instances[2:4, :4] = 1, 1, 0
    instances[2:4, 5:] = 1, 2, 0
    instances[4, :], instances[1, 7] = (100, 3, 0), (100, 3, 0)
    return instances


def ade20k(root):
    """Write one image of each split of ADE20K-150, with its instances."""
    for folder, name in ADE_SPLITS.values():
        photograph(root / "images" / folder / f"{name}.jpg")
        save(root / "annotations" / folder / f"{name}.png", ade_labels())
        save(root / "annotations_instance" / folder / f"{name}.png", ade_instances())
    return root


def ade20k_full(root, ids, split="training", stem="ADE_train_00000001"):
    """Write one image of the full ADE20K, and return its folder."""
    folder = root / "images/ADE" / split / "urban" / "street"
    photograph(folder / f"{stem}.jpg", ids.shape)
    ids = ids.astype(np.int64)
    colors = np.stack([ids // 256 * 10, ids % 256, np.full_like(ids, 7)], axis=-1).astype(np.uint8)
    save(folder / f"{stem}_seg.png", colors)
    save(folder / f"{stem}_parts_1.png", colors)  # beside it, and not read
    return folder


def cityscapes(root, label_ids, split="train", city="aachen"):
    """Write one image of Cityscapes, and return where its labelTrainIds would be."""
    stem = f"{city}_000000_000019"
    photograph(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png")
    folder = root / "gtFine" / split / city
    save(folder / f"{stem}_gtFine_labelIds.png", label_ids)
    save(folder / f"{stem}_gtFine_instanceIds.png", label_ids.astype(np.uint16))  # beside it, and not read
    return folder / f"{stem}_gtFine_labelTrainIds.png"


def coco_stuff(root):
    """Write one image in each list of COCO-Stuff-10K."""
    (root / "imageLists").mkdir()
    for folder, name in STUFF_NAMES.items():
        (root / "imageLists" / f"{folder}.txt").write_text(f"{name}\n")
        photograph(root / "images" / f"{name}.jpg")
        save_matlab(root / "annotations" / f"{name}.mat", rows(1, 2, 172).astype(np.float64))
    return root


def save_matlab(path, labels, variable="S"):
    """Write a map as MATLAB 7.3 does: 512 bytes of text, then HDF5 with the axes exchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        file[variable] = labels.T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")


def panoptic_ids():
    """Return a map of COCO's segment ids, 0 = void."""
    ids = np.zeros(SIZE, np.int64)
    ids[0, :3], ids[1:3], ids[4:] = PANOPTIC_IDS
    return ids


def coco_panoptic(root):
    """Write two images in each split of COCO panoptic."""
    ids = panoptic_ids()
    colors = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
    for split in ("train", "val"):
        content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
        for number in (12, 5):
            name = f"{number:012d}"
            photograph(root / f"{split}2017" / f"{name}.jpg")
            save(root / "annotations" / f"panoptic_{split}2017" / f"{name}.png", colors)
            content["images"].append({"id": number, "file_name": f"{name}.jpg", "height": 6, "width": 8})
            pairs = zip(PANOPTIC_IDS, _PANOPTIC_CATEGORIES, strict=True)
            segments = [{"id": i, "category_id": c, "iscrowd": 0} for i, c in pairs]
            content["annotations"].append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
        (root / "annotations" / f"panoptic_{split}2017.json").write_text(json.dumps(content))
    return root
