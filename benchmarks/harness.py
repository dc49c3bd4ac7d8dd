"""Time our call and its peers side by side, and collect what a reader needs to judge the figures."""

from __future__ import annotations

import datetime
import gc
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import isolated
from benchmarks.case import Case, describe, synchronize
from benchmarks.memory import is_steady_state, page_faults
from maskformer_ext.ops import _library

_PACKAGES = ("torch", "torchvision", "transformers", "scipy", "lapx", "numpy", "maskformer-ext")
_SETTLED = 0.05  # warm-up ends when two medians in a row differ by less
_WARM_UP_SECONDS = 20.0
_MIN_ROUNDS, _MAX_ROUNDS = 5, 300


class Timer:
    """Times of several calls, taken in turns."""

    def __init__(self, calls: dict[str, Callable[[], Any]], wait: Callable[[], None]) -> None:
        self.calls = calls
        self.wait = wait
        self.times: dict[str, list[float]] = {name: [] for name in calls}
        self.faults: dict[str, list[int]] = {name: [] for name in calls}

    def run(self, name: str) -> None:
        """Run one call to its end and note its time and page faults; its result is freed outside the time."""
        self.wait()
        faults, begin = page_faults(), time.perf_counter()
        result = self.calls[name]()
        self.wait()
        self.times[name].append(time.perf_counter() - begin)
        self.faults[name].append(page_faults() - faults)
        del result

    def clear(self) -> None:
        """Forget all times."""
        for name in self.calls:
            self.times[name].clear()
            self.faults[name].clear()

    def settle(self) -> float:
        """Run everything in turns until the medians settle; return the seconds of one turn."""
        start, previous = time.perf_counter(), None
        while True:
            self.clear()
            for _ in range(3):
                for name in self.calls:
                    self.run(name)
            medians = {name: statistics.median(times) for name, times in self.times.items()}
            settled = previous and all(abs(medians[n] / previous[n] - 1) < _SETTLED for n in medians)
            if settled or time.perf_counter() - start > _WARM_UP_SECONDS:
                self.clear()
                return sum(medians.values())
            previous = medians

    def summary(self, name: str) -> dict[str, float]:
        """Return median and quartiles in seconds, rounds, and page faults a call."""
        times = sorted(self.times[name])
        quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
        return {
            "median": statistics.median(times),
            "lower_quartile": quartiles[0],
            "upper_quartile": quartiles[2],
            "rounds": len(times),
            "page_faults": statistics.median(self.faults[name]),
        }


def compare(
    benchmark: Any, module: str, parameters: dict[str, Any], *, seconds: float = 6.0, outside: bool = True
) -> dict[str, Any]:
    """Check that ours and the peers agree, time them in turns, and measure memory in processes of their own.

    Args:
        benchmark: pytest-benchmark's fixture; it times ours, and each of its rounds first runs every peer.
        module: the module that has `build(**parameters) -> Case` and `SMALL`, the parameters of a small case.
        parameters: the arguments of `build`, as JSON can hold them; `device` among them.
        seconds: about how long the rounds may take together.
        outside: also take the default allocator's times and the peak memory, each in a fresh process.

    Returns:
        The record that is written to `benchmarks/results/`.
    """
    record = _compare_inside(benchmark, isolated.build(module, parameters), parameters, seconds)
    gc.collect()
    if outside:
        for name, call in record.get("calls", {}).items():
            call.update(isolated.run(module, parameters, name))
    return record


def _compare_inside(benchmark: Any, case: Case, parameters: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Check and time in this process; `calls` is missing where timing is switched off."""
    errors = case.errors()
    record = _describe(case, parameters, errors)
    if benchmark.disabled:
        benchmark(case.ours)
        return record
    timer = Timer(case.calls(), synchronize(case.inputs.values()))
    turn = timer.settle()
    rounds = int(min(_MAX_ROUNDS, max(_MIN_ROUNDS, seconds / turn)))

    def run_peers() -> None:
        for name in case.peers:
            timer.run(name)

    benchmark.pedantic(timer.run, args=("ours",), setup=run_peers, rounds=rounds, iterations=1)
    record["steady_state"] = is_steady_state()
    record["calls"] = {name: {**timer.summary(name), "error": errors.get(name, 0.0)} for name in case.calls()}
    return record


def _describe(case: Case, parameters: dict[str, Any], errors: dict[str, float]) -> dict[str, Any]:
    return {
        "op": case.op,
        "title": case.title,
        "parameters": parameters,
        "inputs": describe(case.inputs),
        "notes": list(case.notes),
        "implementation": implementation(case.kernels or (case.op,), parameters["device"]),
        "errors": errors,
        **machine(parameters["device"]),
    }


def implementation(kernels: tuple[str, ...], device: str) -> str:
    """Say whether ops, given by the beginning of their names, run on native kernels or on the PyTorch references."""
    registered = torch._C._dispatch_get_registrations_for_dispatch_key({"cpu": "CPU", "cuda": "CUDA"}[device])
    missing = [name for name in kernels if not any(op.startswith(f"{_library.NAMESPACE}::{name}") for op in registered)]
    return "reference" if _library.REFERENCE or missing else "native"


def machine(device: str) -> dict[str, Any]:
    """Describe where and with what this process runs."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.split(':', 1)[1].strip()} ({torch.backends.cpu.get_cpu_capability()})"
    return platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
