"""Event files for TensorBoard, written at once: its own writer has a thread, which prints a full disk's traceback."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from maskformer_ext.errors import UserError, why

_FORMAT = "brain.Event:2"  # how every event file begins


class Board:
    """One event file.

    Args:
        folder: where it goes; made if need be.
        purge_step: of an earlier file, TensorBoard forgets what has this step or a later one.

    Raises:
        UserError: here and in every method, if the disk does not take it.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._closed = Event, False
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{time.time_ns()}"
        self._path = folder / name
        with self._guarded():
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = RecordWriter(self._path.open("wb", buffering=0))
            self._write(Event(file_version=_FORMAT))
            if purge_step is not None:
                self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def add_scalars(self, iteration: int, values: dict[str, float]) -> None:
        """Add numbers by name."""
        from torch.utils.tensorboard.summary import scalar

        with self._guarded():
            for name, value in values.items():
                self._write(self._event(step=iteration, summary=scalar(name, value)))

    def add_picture(self, iteration: int, name: str, picture: np.ndarray) -> None:
        """Add an (H, W, 3) uint8 picture."""
        from torch.utils.tensorboard.summary import image

        with self._guarded():
            self._write(self._event(step=iteration, summary=image(name, picture, dataformats="HWC")))

    def close(self) -> None:
        """Close the file."""
        if not self._closed:
            self._closed = True
            with self._guarded():
                self._writer.close()

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self._path} could not be written: {why(error)}") from error
