"""How long the steps from an image to its result took, without waiting for a GPU while they run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

STEPS = ("preprocessing", "network", "reduction")
"""What is timed, in order: reading and resizing; the network with its normalisation; from its output to the result."""


@dataclass(frozen=True)
class Times:
    """Milliseconds that an image took; what a batch shares is divided by its images.

    Attributes:
        preprocessing: reading the image, and the resize of test time.
        network: normalising, padding and the network itself.
        reduction: from the network's output to the result at its size.
    """

    preprocessing: float
    network: float
    reduction: float

    @property
    def total(self) -> float:
        """Milliseconds of all three."""
        return self.preprocessing + self.network + self.reduction

    def __str__(self) -> str:
        parts = ", ".join(f"{step} {getattr(self, step):.1f}" for step in STEPS)
        return f"{self.total:.1f} ms ({parts})"


def mark(device: torch.device) -> Any:
    """Return this moment; on a GPU that when its queue has come so far, which is not waited for."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


class Laps:
    """The moments between which the steps of one image ran; read out by `times`, which may wait for the GPU.

    Args:
        device: of the model.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._spans: list[tuple[str, Any, Any, float]] = []

    def mark(self) -> Any:
        """Return this moment, for `add`."""
        return mark(self.device)

    def add(self, step: str, begin: Any, end: Any = None, share: float = 1.0) -> None:
        """Count the time between two moments.

        Args:
            step: one of ``STEPS``.
            begin: of `mark`.
            end: likewise; None: now.
            share: of that time which counts for this image.
        """
        self._spans.append((step, begin, self.mark() if end is None else end, share))

    def add_around_network(self, begin: Any) -> None:
        """Count as reduction what has passed since a moment, except for the network's time in this image so far."""
        inside = [("reduction", first, last, -share) for step, first, last, share in self._spans if step == "network"]
        self._spans += [("reduction", begin, self.mark(), 1.0), *inside]

    def copy(self) -> Laps:
        """Return what is counted so far, to go on separately."""
        laps = Laps(self.device)
        laps._spans = list(self._spans)
        return laps

    def __reduce__(self) -> tuple[type[Times], tuple[float, float, float]]:
        times = self.times()  # a GPU's moments cannot travel to another process
        return Times, (times.preprocessing, times.network, times.reduction)

    def times(self) -> Times:
        """Return the milliseconds of each step."""
        sums = dict.fromkeys(STEPS, 0.0)
        for step, begin, end, share in self._spans:
            sums[step] += share * _milliseconds(begin, end)
        return Times(**{step: max(0.0, value) for step, value in sums.items()})


def _milliseconds(begin: Any, end: Any) -> float:
    if isinstance(begin, float):
        return 1000 * (end - begin)
    end.synchronize()
    return begin.elapsed_time(end)
