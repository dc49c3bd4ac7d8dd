"""Time several calls in turns: on the host's clock, or with a GPU's events."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.memory import page_faults

_SETTLED = 0.05  # warm-up ends when two successive medians differ by a smaller share


class Timer:
    """Times of several calls on the host's clock."""

    def __init__(self, calls: dict[str, Callable[[], Any]], warm_up_seconds: float = 20.0) -> None:
        self.calls = calls
        self.warm_up_seconds = warm_up_seconds
        self.times: dict[str, list[float]] = {name: [] for name in calls}
        self.faults: dict[str, list[int]] = {name: [] for name in calls}

    def run(self, name: str) -> None:
        """Run one call to its end, and note its time and page faults. Freeing its result is not timed."""
        faults = page_faults()
        seconds, result = self._time(self.calls[name])
        self.times[name].append(seconds)
        self.faults[name].append(page_faults() - faults)
        del result

    def _time(self, call: Callable[[], Any]) -> tuple[float, Any]:
        begin = time.perf_counter()
        result = call()
        return time.perf_counter() - begin, result

    def clear(self) -> None:
        """Forget all times."""
        for name in self.calls:
            self.times[name].clear()
            self.faults[name].clear()

    def settle(self) -> float:
        """Run all calls in turns until the medians settle; return the seconds of one turn."""
        start, previous = time.perf_counter(), None
        while True:
            self.clear()
            for _ in range(3):
                for name in self.calls:
                    self.run(name)
            medians = {name: statistics.median(times) for name, times in self.times.items()}
            settled = previous and all(abs(medians[n] / previous[n] - 1) < _SETTLED for n in medians)
            if settled or time.perf_counter() - start > self.warm_up_seconds:
                self.clear()
                return sum(medians.values())
            previous = medians

    def summary(self, name: str) -> dict[str, float]:
        """Return median and quartiles in seconds, the number of rounds, and page faults per call."""
        times = sorted(self.times[name])
        quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
        return {
            "median": statistics.median(times),
            "lower_quartile": quartiles[0],
            "upper_quartile": quartiles[2],
            "rounds": len(times),
            "page_faults": statistics.median(self.faults[name]),
        }


class DeviceTimer(Timer):
    """Times of several calls between two events on the GPU's current stream.

    The second-level cache is overwritten first: in a training step inputs come from memory too. The call is queued
    behind that, as it would be behind other work. Its waits on the host are part of its time.
    """

    def __init__(self, calls: dict[str, Callable[[], Any]], warm_up_seconds: float = 1.0) -> None:
        super().__init__(calls, warm_up_seconds)
        self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        cache = torch.cuda.get_device_properties().L2_cache_size
        self.other_data = torch.empty(2 * cache, dtype=torch.int8, device="cuda")

    def settle(self) -> float:
        """Run all calls in turns, at least once, until the warm-up is over; return the seconds of one turn."""
        start = time.perf_counter()
        while True:
            for name in self.calls:
                self.run(name)
            if time.perf_counter() - start > self.warm_up_seconds:
                turn = sum(statistics.median(times) for times in self.times.values())
                self.clear()
                return turn

    def _time(self, call: Callable[[], Any]) -> tuple[float, Any]:
        torch.cuda.synchronize()
        self.other_data.zero_()
        self.begin.record()
        result = call()
        self.end.record()
        self.end.synchronize()
        return self.begin.elapsed_time(self.end) / 1e3, result


def timer_for(device: str, calls: dict[str, Callable[[], Any]]) -> Timer:
    """Return the timer of a device."""
    return DeviceTimer(calls) if device == "cuda" else Timer(calls)


def host_syncs(call: Callable[[], Any]) -> int:
    """Return how often a call makes the host wait for the GPU, as far as torch knows."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)
