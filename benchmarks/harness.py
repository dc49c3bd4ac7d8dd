"""Time our call and its peers in turns, and collect what a reader needs to judge the figures."""

from __future__ import annotations

import datetime
import gc
import importlib.metadata
import os
import platform
from typing import Any

import torch

from benchmarks import isolated, processor
from benchmarks.case import Case, describe
from benchmarks.memory import is_steady_state, peak_extra
from benchmarks.timers import host_syncs, timer_for
from maskformer_ext.ops.support import library

_PACKAGES = ("torch", "torchvision", "transformers", "scipy", "lapx", "lap", "numpy", "maskformer-ext")
# Fewest and most rounds. On a GPU cases are large and nothing but our own work runs: few rounds give the median.
_ROUNDS = {"cpu": (5, 300), "cuda": (3, 100)}


def compare(
    benchmark: Any, module: str, parameters: dict[str, Any], *, seconds: float = 6.0, outside: bool = True
) -> dict[str, Any]:
    """Check that ours and the peers agree, time them in turns, and measure the memory of each.

    Args:
        benchmark: pytest-benchmark's fixture. It times ours. Each of its rounds first runs every peer.
        module: the module that has `build(**parameters) -> Case` and `SMALL`, the parameters of a small case.
        parameters: the arguments of `build`, as JSON can hold them; `device` among them.
        seconds: about how long the rounds may take together.
        outside: on a CPU, also take the default allocator's times and the peak memory, each in a fresh process. A GPU
            needs no such process: torch counts the memory of each call in this one.

    Returns:
        The record that is written to `benchmarks/results/`.
    """
    record = _compare_inside(benchmark, isolated.build(module, parameters), parameters, seconds)
    gc.collect()
    if outside and parameters["device"] == "cpu":
        for name, call in record.get("calls", {}).items():
            call.update(isolated.run(module, parameters, name))
    return record


def _compare_inside(benchmark: Any, case: Case, parameters: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Check and time in this process. The record has no `calls` where timing is switched off."""
    errors = case.errors()
    record = _describe(case, parameters, errors)
    if benchmark.disabled:
        benchmark(case.ours)
        return record
    device = parameters["device"]
    timer = timer_for(device, case.calls())
    turn = timer.settle()
    fewest, most = _ROUNDS[device]
    rounds = int(min(most, max(fewest, seconds / turn)))

    def run_peers() -> None:
        for name in case.peers:
            timer.run(name)

    benchmark.pedantic(timer.run, args=("ours",), setup=run_peers, rounds=rounds, iterations=1)
    record["steady_state"] = device == "cuda" or is_steady_state()
    record["calls"] = {name: {**timer.summary(name), "error": errors.get(name, 0.0)} for name in case.calls()}
    if device == "cuda":
        _measure_on_gpu(case, record)
    return record


def _measure_on_gpu(case: Case, record: dict[str, Any]) -> None:
    """Add each call's peak memory, and how often ours makes the host wait."""
    for name, call in case.calls().items():
        case.forget()
        gc.collect()
        record["calls"][name]["memory"] = peak_extra(call, "cuda")
    record["host_syncs"] = host_syncs(case.ours)
    record["too_large"] = case.too_large


def _describe(case: Case, parameters: dict[str, Any], errors: dict[str, float]) -> dict[str, Any]:
    return {
        "op": case.op,
        "title": case.title,
        "parameters": parameters,
        "inputs": describe(case.inputs),
        "notes": list(case.notes),
        "implementation": implementation(case.kernels or (case.op,), parameters["device"]),
        "errors": errors,
        **({} if case.peers else {"no_peer": case.no_peer}),
        **machine(parameters["device"]),
    }


def implementation(kernels: tuple[str, ...], device: str) -> str:
    """Return "native" or "reference": what all ops whose names begin with one of `kernels` run on."""
    registered = torch._C._dispatch_get_registrations_for_dispatch_key({"cpu": "CPU", "cuda": "CUDA"}[device])
    missing = [name for name in kernels if not any(op.startswith(f"{library.NAMESPACE}::{name}") for op in registered)]
    return "reference" if library.REFERENCE or missing else "native"


def machine(device: str) -> dict[str, Any]:
    """Describe where and with what this process runs."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if device == "cuda" else processor.processor(),
        **({} if device == "cuda" else {"instruction_set": processor.instruction_set()}),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "versions": {
            "python": platform.python_version(),
            **_versions(),
            **({"cuda": torch.version.cuda} if device == "cuda" else {}),
        },
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
