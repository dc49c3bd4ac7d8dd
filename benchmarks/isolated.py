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

from benchmarks.case import Case, synchronize
from benchmarks.memory import default_allocator_environment, page_faults, peak_extra

_ROOT = Path(__file__).resolve().parent.parent


def build(module: str, parameters: dict[str, Any]) -> Case:
    """Build a case from the name of its module and the arguments of the module's `build`."""
    return importlib.import_module(module).build(**parameters)


def _warm_up(module: str, parameters: dict[str, Any], who: list[str]) -> None:
    """Load code, thread pools and lazily made tables with a small case, so that they are not counted."""
    small = build(module, {**parameters, **importlib.import_module(module).SMALL})
    for name in who:
        small.calls()[name]()


def measure_memory(module: str, parameters: dict[str, Any], who: str) -> dict[str, Any]:
    """Measure the peak memory of one call, once its inputs exist."""
    _warm_up(module, parameters, [who])
    case = build(module, parameters)
    return dict(peak_extra(case.calls()[who], parameters["device"]))


def measure_time(module: str, parameters: dict[str, Any], who: str, seconds: float = 5.0) -> dict[str, Any]:
    """Time a call again and again under the default allocator; return the median and its page faults.

    Each call has a process of its own here: freed memory of one would otherwise serve, or split, the other's.
    """
    _warm_up(module, parameters, [who])
    case = build(module, parameters)
    call, wait = case.calls()[who], synchronize(case.inputs.values())
    times: list[float] = []
    start, faults = time.perf_counter(), page_faults()
    while len(times) < 5 or (len(times) < 30 and time.perf_counter() - start < seconds):
        wait()
        begin = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - begin)
    faults_a_call = (page_faults() - faults) / len(times)
    return {"median": statistics.median(times[1:]), "rounds": len(times) - 1, "page_faults": faults_a_call}


def run(module: str, parameters: dict[str, Any], what: str, who: str) -> dict[str, Any]:
    """Run one measurement (memory or time) of one call in a fresh process with the default allocator."""
    command = [sys.executable, "-m", "benchmarks.isolated", module, json.dumps(parameters), what, who]
    done = subprocess.run(command, cwd=_ROOT, env=default_allocator_environment(), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str]) -> None:
    """Run the measurement that the command line names and print its result as one line of JSON."""
    module, parameters, what, who = arguments
    measure = {"memory": measure_memory, "time": measure_time}[what]
    print(json.dumps(measure(module, json.loads(parameters), who)))


if __name__ == "__main__":
    main(sys.argv[1:])
