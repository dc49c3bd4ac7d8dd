"""Show how a training run is going: on a terminal, in plain lines, in ``history.jsonl`` and in TensorBoard."""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskformer_ext.engine.tensorboard_files import Board
from maskformer_ext.errors import UserError, visible, why
from maskformer_ext.files import append_text, write_text

_LARGEST = 1e300  # number in a history that is drawn


class Clock:
    """Measure images per second and the share of the time that the loop waited for data.

    Args:
        seconds_before: what earlier parts of a resumed run took.
    """

    def __init__(self, seconds_before: float = 0.0) -> None:
        self._before, self._start = seconds_before, time.monotonic()
        self._all_images, self._all_seconds = 0, 0.0
        self.reset()

    @property
    def seconds(self) -> float:
        """Time spent in the run so far, evaluations in between included."""
        return self._before + time.monotonic() - self._start

    @property
    def images_per_second(self) -> float:
        """The rate of training alone, over all intervals that were read."""
        return self._all_images / max(self._all_seconds, 1e-9)

    def reset(self) -> None:
        """Start a new measuring interval (after an evaluation, say, which must not count)."""
        self._since, self._images, self._waited = time.monotonic(), 0, 0.0

    def waited(self, seconds: float) -> None:
        """Add time in which the loop had no data."""
        self._waited += seconds

    def step(self, images: int) -> None:
        """Add one optimiser step over so many images."""
        self._images += images

    def read(self) -> dict[str, float]:
        """Return ``images_per_second`` and ``data_share`` of the interval, and start the next one."""
        elapsed = max(time.monotonic() - self._since, 1e-9)
        values = {"images_per_second": self._images / elapsed, "data_share": self._waited / elapsed}
        self._all_images += self._images
        self._all_seconds += elapsed
        self.reset()
        return values


def memory_gib(device: torch.device) -> float:
    """Return the peak memory in GiB: what torch allocated on a GPU, otherwise the resident size of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB


class Progress:
    """Show where the run is; silent on every process but the first.

    Args:
        total: iterations of the whole run.
        enabled: whether this process shows anything.
    """

    def __init__(self, total: int, *, enabled: bool = True) -> None:
        self._total, self._enabled, self._bar = total, enabled, None
        if enabled and sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._task = self._bar.add_task("starting", total=total)
            self._bar.start()

    def advance(self, iteration: int) -> None:
        """Move the bar to an iteration."""
        if self._bar is not None:
            self._bar.update(self._task, completed=iteration)

    def describe(self, text: str) -> None:
        """Replace the text beside the bar, on a terminal."""
        if self._bar is not None:
            self._bar.update(self._task, description=text)

    def show(self, iteration: int, values: dict[str, float], seconds_left: float) -> None:
        """Show the losses and rates of the last interval."""
        if not self._enabled:
            return
        parts = "  ".join(f"{key.removeprefix('loss_')} {values[key]:.3f}" for key in last_layer_losses(values))
        text = (
            f"loss {values['loss']:.3f} ({parts})  lr {values['lr']:.1e}  {values['images_per_second']:.1f} images/s  "
            f"data {values['data_share']:.0%}  {values['memory_gib']:.1f} GiB  left {format_seconds(seconds_left)}"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=iteration, description=text)
        else:
            width = len(str(self._total))
            print(f"{iteration:>{width}}/{self._total}  {text}", flush=True)

    def note(self, text: str) -> None:
        """Print a text above the display; names in it may be anybody's."""
        text = "\n".join(map(visible, text.splitlines()))
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif self._enabled:
            print(text, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class History:
    """Append scalars to ``history.jsonl`` and TensorBoard, one record per line: ``{"iteration": 20, "loss": ...}``.

    Args:
        output_dir: the output folder of the run.
        start: the iteration that the run goes on from; later records of an interrupted part are dropped.
        enabled: whether this process writes.
    """

    def __init__(self, output_dir: Path, start: int = 0, *, enabled: bool = True) -> None:
        self.path = output_dir / "history.jsonl"
        self._board: Board | None = None
        if not enabled:
            return
        kept = [record for record in read_history(self.path) if record["iteration"] <= start] if start else []
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        self._board = Board(output_dir / "tensorboard", purge_step=start + 1 if start else None)

    def add(self, iteration: int, kind: str, values: dict[str, Any]) -> None:
        """Add the finite numbers among ``values``; ``kind`` is "train" or "eval".

        Raises:
            UserError: if the disk does not take them.
        """
        if self._board is None:
            return
        numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
        scalars = {key: value for key, value in numbers.items() if math.isfinite(value)}
        append_text(self.path, json.dumps({"iteration": iteration, "kind": kind, **scalars}) + "\n")
        self._board.add_scalars(iteration, {f"{kind}/{key}": value for key, value in scalars.items()})

    def add_picture(self, iteration: int, name: str, picture: np.ndarray) -> None:
        """Add an (H, W, 3) uint8 picture to TensorBoard."""
        if self._board is not None:
            self._board.add_picture(iteration, name, picture)

    def close(self) -> None:
        """Close the event file."""
        if self._board is not None:
            self._board.close()


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read ``history.jsonl``; lines that a crash cut off or somebody damaged are left out, as is what is no number.

    Raises:
        UserError: if the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    except OSError as error:
        raise UserError(f"{path} cannot be read: {why(error)}") from error
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and _is_number(record.get("iteration")):
            kind = record.get("kind")
            numbers = {key: value for key, value in record.items() if _is_number(value)}
            records.append({**numbers, "kind": kind} if isinstance(kind, str) else numbers)
    return records


def last_layer_losses(values: Iterable[str]) -> list[str]:
    """Return the names of the losses of the last decoder layer: ``loss_mask``, and not ``loss_mask_0``."""
    return [key for key in values if key.startswith("loss_") and not key.rpartition("_")[2].isdigit()]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def format_seconds(seconds: float) -> str:
    """Return hours, minutes and seconds: 1:02:03."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
