"""Photos of telephones as training images: HEIC and AVIF are read like any other format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folder_sets import squares, write_folder
from PIL import Image

from maskformer_ext.config import DataConfig
from maskformer_ext.data import build_dataset


@pytest.mark.parametrize("kind", ["heic", "avif"])
def test_photos_of_telephones_are_training_images(tmp_path: Path, kind: str) -> None:
    if kind == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    root = write_folder(tmp_path / "set", "ground\nsquare\n", lambda *_: squares(1, 1, side=30), images=2)
    before = build_dataset(DataConfig(name="semantic_folder", root=str(root)), "train")[0]
    for file in root.rglob("images/*.png"):
        with Image.open(file) as image:
            image.save(file.with_suffix(f".{kind}"), quality=95)
        file.unlink()
    dataset = build_dataset(DataConfig(name="semantic_folder", root=str(root)), "train")
    assert len(dataset) == 2 and dataset[0].name == "0"
    assert dataset[0].labels.tolist() == before.labels.tolist()
    difference = np.abs(np.asarray(dataset[0].image).astype(int) - np.asarray(before.image).astype(int))
    assert difference.mean() < 30  # noise is lost, squares are not
