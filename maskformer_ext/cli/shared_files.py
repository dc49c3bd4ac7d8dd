"""Files that several processes share out among themselves: each one is taken once, by whoever is free first."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from maskformer_ext.cli.arguments import choose_device
from maskformer_ext.cli.processes import is_launched
from maskformer_ext.errors import UserError

_LOOK_SECONDS = 0.1
_FAREWELL_SECONDS = 10.0
_PATIENCE_SECONDS = 30.0


class SharedFiles:
    """The part of one process: the ones that ``torchrun`` started talk through its store; alone it takes all.

    There is no process group. So a process that works on a long video keeps nobody waiting but at the end, and then
    as long as it needs. Where one ends before its time, ``torchrun`` ends the others.

    Attributes:
        rank: which of the processes it is, from 0.
        world: how many there are.
    """

    def __init__(self) -> None:
        self.rank, self.world, self._store = 0, 1, None
        if is_launched():
            from torch.distributed import rendezvous

            self._store, self.rank, self.world = next(iter(rendezvous("env://")))

    def agree(self, names: Sequence[str]) -> None:
        """Check that all processes have listed the same files.

        Raises:
            UserError: if not.
        """
        if self._store is None:
            return
        digest = hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()
        if self.rank == 0:
            self._store.set("files", digest)
        if self._wait("files").decode() != digest:
            raise UserError(
                f"process {self.rank} of {self.world} found other files than process 0: "
                "start again when the input no longer changes, on machines that share it"
            )

    def take(self, count: int) -> Iterator[int]:
        """Yield indices below ``count``; over all processes each one comes once."""
        if self._store is None:
            yield from range(count)
            return
        while (index := self._store.add("taken", 1) - 1) < count:
            yield index

    def gather(self, values: dict[str, Any]) -> list[dict[str, Any]]:
        """Wait until all processes are here, and return what each one brought; the others than the first get theirs.

        Args:
            values: what JSON takes.
        """
        if self._store is None:
            return [values]
        self._store.set(f"result {self.rank}", json.dumps(values))
        if self.rank:
            self._wait("all are here")
            self._store.add("left", 1)
            return [values]
        return [json.loads(self._wait(f"result {rank}")) for rank in range(self.world)]

    def leave(self) -> None:
        """Let the other processes end: the first one calls this when its own work is done."""
        if self._store is None or self.rank:
            return
        self._store.set("all are here", "yes")
        until = time.monotonic() + _FAREWELL_SECONDS  # its store may lie in this process
        while self._store.add("left", 0) < self.world - 1 and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)

    def _wait(self, key: str) -> bytes:
        """Return a value as soon as it is there, however long that takes."""
        assert self._store is not None
        while not self._store.check([key]):
            time.sleep(_LOOK_SECONDS)
        return self._store.get(key)


def is_spokesman() -> bool:
    """Return whether this process is the first one on its machine, which speaks where all would say the same."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def choose_own_device(values: Mapping[str, str | None]) -> str:
    """Return the device of this process: as `choose_device`, but each process on a machine has a GPU of its own."""
    device = choose_device(values)
    if device != "cuda" or not is_launched():
        return device

    import torch

    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


@contextmanager
def one_voice() -> Iterator[None]:
    """Let one process per machine say what is wrong where all find the same: ``torchrun`` ends the others then.

    A problem that one process alone has is said after half a minute.
    """
    try:
        yield
    except UserError:
        if is_launched() and not is_spokesman():
            time.sleep(_PATIENCE_SECONDS)
        raise
