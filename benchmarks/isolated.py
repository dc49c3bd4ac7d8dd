"""Measure one case in a process of its own, with the default allocator: `python -m benchmarks.isolated ...`."""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.case import Case
from benchmarks.memory import default_allocator_environment, page_faults, peak_extra

_ROOT = Path(__file__).resolve().parent.parent


def build(module: str, parameters: dict[str, Any]) -> Case:
    """Build the case of a module, given by name, from the arguments of the module's `build`."""
    return importlib.import_module(module).build(**parameters)


def _warm_up(module: str, parameters: dict[str, Any], who: str) -> None:
    """Run a small case, so that code, thread pools and lazily made tables are not counted."""
    small = build(module, {**parameters, **importlib.import_module(module).SMALL})
    small.calls()[who]()


def measure(module: str, parameters: dict[str, Any], who: str, seconds: float = 5.0) -> dict[str, Any]:
    """Measure the peak memory of a call once its inputs exist. On a CPU, then time it again and again.

    Ours and each peer have a process of their own: memory that one has freed would serve, or split, the other's.

    Args:
        module: where `build` and `SMALL` are.
        parameters: the arguments of `build`.
        who: ours, or the name of a peer.
        seconds: about how long to time; 0: not at all.

    Returns:
        `memory`: the result of `peak_extra`. `default_allocator`: median seconds, rounds and page faults per call.
    """
    _warm_up(module, parameters, who)
    case = build(module, parameters)
    call = case.calls()[who]
    measured: dict[str, Any] = {"memory": peak_extra(call, parameters["device"])}
    if parameters["device"] != "cpu" or not seconds:
        return measured
    times: list[float] = []
    start, faults = time.perf_counter(), page_faults()
    while len(times) < 5 or (len(times) < 30 and time.perf_counter() - start < seconds):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    faults_per_call = (page_faults() - faults) / len(times)
    measured["default_allocator"] = {
        "median": statistics.median(times),
        "rounds": len(times),
        "page_faults": faults_per_call,
    }
    return measured


def run(module: str, parameters: dict[str, Any], who: str, seconds: float = 5.0) -> dict[str, Any]:
    """Run `measure` in a fresh process with the default allocator. With `seconds=0` it measures memory only."""
    command = [sys.executable, "-m", "benchmarks.isolated", module, json.dumps(parameters), who, str(seconds)]
    done = subprocess.run(command, cwd=_ROOT, env=default_allocator_environment(), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str]) -> None:
    """Run the measurement that the command line names, and print its result as one line of JSON."""
    module, parameters, who, seconds = arguments
    print(json.dumps(measure(module, json.loads(parameters), who, float(seconds))))


if __name__ == "__main__":
    main(sys.argv[1:])
