"""Collect bench_*.py, restart pytest with the allocator settings of a steady state, print and record the table.

Options:
    --record             add the figures to benchmarks/results/, to the file of this GPU or kind of processor
    --record-to FILE     add the figures to this file
    --device cpu|cuda    run on this device only
    --inside             leave out what needs processes of its own: memory, default allocator
    --benchmark-disable  only check that results agree
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import memory, plain, processor, report
from benchmarks.harness import compare as compare_case

_records = pytest.StashKey[list[dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the benchmarks."""
    group = parser.getgroup("maskformer_ext benchmarks")
    group.addoption("--record", action="store_true", help="add the figures to benchmarks/results/")
    group.addoption("--record-to", type=Path, metavar="FILE", help="add the figures to this file")
    group.addoption("--device", choices=("cpu", "cuda"), help="run on this device only")
    group.addoption("--inside", action="store_true", help="leave out memory and the default allocator's times")


def pytest_configure(config: pytest.Config) -> None:
    """Restart with the settings of allocator and peers, then map memory once. Both are read when a process starts."""
    config.stash[_records] = []
    config.addinivalue_line("markers", "timeout(seconds): see pytest-timeout")
    if not config.pluginmanager.hasplugin("benchmark"):
        config.pluginmanager.register(plain)
    if config.option.collectonly or config.getoption("benchmark_disable", False):
        return
    if config.getoption("--device") == "cuda":
        return  # torch's allocator of GPU memory keeps what it has
    settings = {**memory.STEADY_STATE, **processor.narrowing_of_peers()}
    if not settings.items() <= os.environ.items():
        capture = config.pluginmanager.getplugin("capturemanager")
        if capture is not None:
            capture.stop_global_capturing()
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **settings})
    memory.touch_memory()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the benchmarks, whose names do not match pytest's default pattern."""
    known = any(file_path.match(pattern) for pattern in parent.config.getini("python_files"))
    if not file_path.match("bench_*.py") or known or parent.session.isinitpath(file_path):
        return None
    return pytest.Module.from_parent(parent, path=file_path)


Compare = Callable[..., dict[str, Any]]


@pytest.fixture
def compare(request: pytest.FixtureRequest, benchmark: Any) -> Compare:
    """Compare our call with its peers on the CPU, in the case that the module's `build(device=..., ...)` makes."""
    return _comparison(request, benchmark, "cpu", 6.0)


@pytest.fixture
def compare_on_gpu(request: pytest.FixtureRequest, benchmark: Any) -> Compare:
    """Compare on the GPU, in less time: it has many cases, and their medians settle at once."""
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return _comparison(request, benchmark, "cuda", 2.0)


def _comparison(request: pytest.FixtureRequest, benchmark: Any, device: str, usual_seconds: float) -> Compare:
    config = request.config
    if config.getoption("--device") not in (None, device):
        pytest.skip(f"--device {config.getoption('--device')}")

    def run(*, seconds: float = usual_seconds, outside: bool = True, **parameters: Any) -> dict[str, Any]:
        parameters = {"device": device, **parameters}
        outside = outside and not config.getoption("--inside")
        record = compare_case(benchmark, request.module.__name__, parameters, seconds=seconds, outside=outside)
        benchmark.extra_info.update(record)
        if "calls" in record:
            config.stash[_records].append(record)
            if config.getoption("--record"):
                report.append(record, report.path_of_record(record))
            if config.getoption("--record-to"):
                report.append(record, config.getoption("--record-to"))
        return record

    return run


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table."""
    records = config.stash[_records]
    if records:
        terminalreporter.section("ours and the peers, medians")
        terminalreporter.write_line(report.machine_line(records[-1]))
        terminalreporter.write_line(report.table(records))
