"""Turn Ctrl-C and SIGTERM into a question that the loop asks between steps."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any


class TrainingInterrupted(Exception):
    """Report that a signal ended the training; the message says what was saved and how to go on.

    Attributes:
        signal_number: SIGINT or SIGTERM; commands exit with 128 plus this.
    """

    def __init__(self, iteration: int, output_dir: Path, signal_number: int) -> None:
        done = f"after {iteration} iterations, which are saved" if iteration else "before the first iteration"
        name = signal.Signals(signal_number).name
        super().__init__(
            f"stopped by {name} {done}; go on with: "
            f"maskformer-ext train config={output_dir / 'config.yaml'} resume=auto"
        )
        self.signal_number = signal_number


class StopSignals:
    """Remember SIGINT and SIGTERM while the context is open; a second one interrupts at once.

    Attributes:
        received: the number of the signal, 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = number
