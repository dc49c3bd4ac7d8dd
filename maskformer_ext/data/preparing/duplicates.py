"""Image files with the same content: within a split they weigh double, and in both splits scores cannot be trusted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskformer_ext.data.types import SampleDataset
from maskformer_ext.errors import printable
from maskformer_ext.files import digest_of

_NAMED = 3


def image_files(dataset: SampleDataset) -> list[Path]:
    """Return the image file of each sample; [] for a data set that has none."""
    file_of: Any = getattr(dataset, "image_file", None)
    return [] if file_of is None else [file_of(index) for index in range(len(dataset))]


def find_duplicates(files: Mapping[str, list[Path]]) -> list[str]:
    """Return one sentence for the images that occur twice in a split, and one for those that both splits have.

    Only files of equal length are read.

    Args:
        files: the image files of each split.
    """
    of_length: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for split, paths in files.items():
        for path in paths:
            try:
                of_length[path.stat().st_size].append((split, path))
            except OSError:
                continue  # reading the sample names the file
    same: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for found in of_length.values():
        if len(found) > 1:
            for split, path in found:
                if (digest := _digest(path)) is not None:
                    same[digest].append((split, path))
    groups = [group for group in same.values() if len(group) > 1]
    shared = [group for group in groups if len({split for split, _ in group}) > 1]
    parts = ([one for one in group if one[0] == split] for group in groups for split in files)
    within = [part for part in parts if len(part) > 1]
    sentences = []
    if shared:
        sentences.append(
            f"{_count(shared)} in both splits, so that scores say less than they seem to: {_names(shared)}"
        )
    if within:
        often = "twice" if all(len(part) == 2 for part in within) else "more than once"
        sentences.append(f"{_count(within)} {often} in a split: {_names(within)}")
    return sentences


def _digest(path: Path) -> str | None:
    try:
        return digest_of(path)
    except OSError:
        return None


def _count(groups: list[list[tuple[str, Path]]]) -> str:
    return f"{len(groups)} image{'s are' if len(groups) > 1 else ' is'}"


def _names(groups: list[list[tuple[str, Path]]]) -> str:
    listed = "; ".join(_equal([path for _, path in group]) for group in groups[:_NAMED])
    return f"{listed}{'; ...' if len(groups) > _NAMED else ''}"


def _equal(paths: list[Path]) -> str:
    more = f" and {len(paths) - 2} more" if len(paths) > 2 else ""
    return " = ".join(map(printable, paths[:2])) + more
