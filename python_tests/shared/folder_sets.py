"""Small data sets in folders, drawn for the tests of what is said about labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Draw = Callable[[np.random.Generator, str, int], np.ndarray]


def write_folder(root: Path, classes: str, draw: Draw, *, images: int = 4) -> Path:
    """Write images and labels below ``train`` and ``val``.

    Args:
        root: the folder to make.
        classes: the content of the classes file; JSON if it begins with a brace.
        draw: from a generator, the split and the number of the image to its labels, (H, W) uint8 or uint16.
        images: of each split.

    Returns:
        ``root``.
    """
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for part in ("images", "labels"):
            (root / split / part).mkdir(parents=True)
        for number in range(images):
            label = draw(generator, split, number)
            pixels = np.where(label[..., None] > 0, 200, generator.integers(0, 90, (*label.shape, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(root / split / "images" / f"{number}.png")
            Image.fromarray(label).save(root / split / "labels" / f"{number}.png")
    (root / ("classes.json" if classes.startswith("{") else "classes.txt")).write_text(classes)
    return root


def squares(*values: int, side: int = 10, shape: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Return labels (H, W) uint8: 0, and squares of these values in a row, which do not touch."""
    label, step = np.zeros(shape, np.uint8), side + 2
    for place, value in enumerate(values):
        row, column = divmod(place, shape[1] // step)
        label[row * step : row * step + side, column * step : column * step + side] = value
    return label
