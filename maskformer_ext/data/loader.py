"""Batches from worker processes, with the sentences about what could not be read."""

from __future__ import annotations

import signal
from collections.abc import Generator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset

from maskformer_ext.data.collate import Collate, Failure
from maskformer_ext.data.skipping import report_skipped
from maskformer_ext.data.streams import IterationBatches
from maskformer_ext.data.types import Batch
from maskformer_ext.errors import UserError


class Loader:
    """An iterable of ``Batch``, prepared by worker processes.

    Attributes:
        skipped: one sentence for each image left out or replaced so far (``data.on_error=skip``).

    Args:
        items: data set of ``Item``.
        batches: lists of its indices.
        collate: makes a ``Batch`` of a list of items.
        num_workers: processes; 0 works in this one.
        pin_memory: page-lock the batches, for copies to a GPU that do not wait.
        skipped: sentences about files that the data set left out.
        persistent: keep the processes from one pass to the next, until `close`.
    """

    def __init__(
        self,
        items: Dataset,
        batches: Sequence[list[int]] | IterationBatches,
        collate: Collate,
        *,
        num_workers: int,
        pin_memory: bool = False,
        skipped: Sequence[str] = (),
        persistent: bool = False,
    ) -> None:
        self.skipped: list[str] = []
        self._report(skipped)
        self._loader: DataLoader | None = DataLoader(
            items,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=num_workers,
            pin_memory=pin_memory,
            prefetch_factor=4 if num_workers else None,
            persistent_workers=persistent and num_workers > 0,
            worker_init_fn=_start_worker,
            generator=torch.Generator().manual_seed(0),  # so that starting workers leaves the global stream alone
        )

    def __len__(self) -> int:
        return 0 if self._loader is None else len(self._loader)

    def __iter__(self) -> Generator[Batch, None, None]:
        failure = yield from self._batches()
        if failure is not None:  # raised out here, so that no frame of the traceback keeps the workers alive
            self.close()
            raise UserError(failure.message)

    def _batches(self) -> Generator[Batch, None, Failure | None]:
        if self._loader is None:
            raise RuntimeError("Loader: cannot be iterated after close() or an error")
        for batch in self._loader:
            if isinstance(batch, Failure):
                return batch
            self._report(batch.skipped)
            if len(batch):
                yield batch
        return None

    def _report(self, problems: Sequence[str]) -> None:
        for problem in problems:
            if problem not in self.skipped:
                report_skipped([problem])
                self.skipped.append(problem)

    def close(self) -> None:
        """End the worker processes."""
        self._loader = None


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)  # the processes are the parallelism
    # Ctrl-C reaches every process of a terminal, and SIGTERM of a cluster every process of a job. The main one decides;
    # a worker ends when its work does, or when the main process is gone.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
