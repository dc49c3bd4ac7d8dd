"""CamVid: road scenes with 11 classes; a semantic folder with its layout filled in."""

from __future__ import annotations

from pathlib import Path

from maskformer_ext.data.classes import read_classes_file
from maskformer_ext.data.folders import SemanticFolder


def camvid(root: Path, split: str, *, skip_errors: bool = False) -> SemanticFolder:
    """Return a split of CamVid: ``images/*.jpg`` and ``labels/*.png`` below ``train`` and ``val``, ``classes.json``.

    Args:
        root: the folder of the data set.
        split: "train" or "val".
        skip_errors: leave out files without partner instead of raising.
    """
    folder = root / split
    table = read_classes_file(root / "classes.json")
    return SemanticFolder(folder / "images", folder / "labels", table, name="camvid", skip_errors=skip_errors)
