"""Read the samples of a data set in several processes, to find what is wrong with its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from maskformer_ext.data.types import SampleDataset
from maskformer_ext.errors import UserError, printable


def spread(count: int, most: int | None) -> list[int]:
    """Return ``most`` indices below ``count``, evenly spread; all of them for None."""
    if most is None or most >= count:
        return list(range(count))
    return [position * count // most for position in range(most)]


class ReadSample:
    """Read one sample and forget it; a ``UserError`` names what is wrong with its files."""

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
