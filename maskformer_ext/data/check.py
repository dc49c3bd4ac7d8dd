"""Check the folder of a public data set: what is missing, and what is wrong with the files that are there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from maskformer_ext.data.sources import Source
from maskformer_ext.data.types import SampleDataset
from maskformer_ext.errors import UserError, printable

_OTHER_SPLIT = {"train": ("val", "test"), "val": ("train",)}


def missing_paths(source: Source, root: Path, splits: Sequence[str]) -> list[str]:
    """Return one sentence for each path below a root that a data set needs and that is not there.

    Args:
        source: the data set.
        root: its folder.
        splits: "train", "val" or both; what only another split needs is left out.
    """
    problems = []
    for alternatives, what in source.needs.items():
        belongs = [split for split in splits if not any(other in alternatives for other in _OTHER_SPLIT[split])]
        paths = [root / path for path in alternatives.split(" or ")]
        if not belongs or any(path.exists() for path in paths):
            continue
        sentence = f"{' or '.join(str(path) for path in paths)} is missing: expected the {what} there."
        archives = [path.with_name(f"{path.name}.zip") for path in paths]
        archives += [root / name for name in re.findall(r"\w+\.zip", what) if root / name not in archives]
        problems += [sentence + "".join(f" Unpack {archive}." for archive in archives if archive.is_file())]
    return problems


def spread(count: int, most: int | None) -> list[int]:
    """Return ``most`` indices below ``count``, evenly spread; all of them for None."""
    if most is None or most >= count:
        return list(range(count))
    return [position * count // most for position in range(most)]


class ReadSample:
    """Read one sample and forget it; a ``UserError`` says what is wrong with its files."""

    def __init__(self, dataset: SampleDataset) -> None:
        self.dataset = dataset

    def __call__(self, index: int) -> None:
        self.dataset[index]


class _Jobs(Dataset):
    def __init__(self, job: Callable[[int], Any], indices: Sequence[int]) -> None:
        self.job, self.indices = job, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Any, str | None]:
        try:
            return self.job(self.indices[position]), None
        except UserError as error:
            return None, printable(error)


def run_jobs(job: Callable[[int], Any], indices: Sequence[int], workers: int) -> Iterator[tuple[Any, str | None]]:
    """Call a function for each index in several processes.

    Args:
        job: called with an index.
        indices: what to call it with.
        workers: processes; 0 works in this one.

    Yields:
        For each index, in order, what the function returned and None, or None and the sentence of a ``UserError``.
    """
    for batch in DataLoader(_Jobs(job, indices), batch_size=8, num_workers=workers, collate_fn=list):
        yield from batch
