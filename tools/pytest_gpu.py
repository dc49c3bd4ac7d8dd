"""A pytest plugin for gpu_check.py: skip what needs an absent package, end in time, keep a few cases of each test.

Usage: `python -m pytest -p pytest_gpu`, with this folder on PYTHONPATH. Only gpu_check.py loads it. Elsewhere an absent
package is a mistake, and a test run must show it.
"""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Generator
from typing import Any

import pytest

_START = time.monotonic()
_OWN = ("maskformer_ext", "benchmarks", "python_tests")
_MISSING = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
_REQUIRED = re.compile(r"requires the (\w+) library but it was not found")  # transformers' own words


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("gpu_check")
    group.addoption("--deadline", type=float, metavar="SECONDS", help="skip what has not begun by then")
    group.addoption("--few", type=int, metavar="N", help="keep N cases of each test function, evenly spread")


def absent_package(module: str | None) -> str | None:
    """Return the package of a module that cannot be imported, if it is another project's and not installed."""
    package = (module or "").partition(".")[0]
    return package if package and package not in _OWN and importlib.util.find_spec(package) is None else None


def evenly(count: int, wanted: int) -> list[int]:
    """Return `wanted` of `count` indices, evenly spread, with the first and the last."""
    if count <= wanted:
        return list(range(count))
    return sorted({round(i * (count - 1) / max(wanted - 1, 1)) for i in range(wanted)})


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep a few cases of each test function."""
    wanted = config.getoption("--few")
    if wanted is None:
        return
    groups: dict[tuple, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault((item.path, getattr(item, "originalname", item.name)), []).append(item)
    kept = {id(cases[index]) for cases in groups.values() for index in evenly(len(cases), wanted)}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Skip a module that imports an absent package."""
    report = yield
    found = _MISSING.findall(str(report.longrepr)) if report.outcome == "failed" else []
    package = absent_package(found[-1]) if found else None
    if package:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: {package} is not installed")
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what begins too late."""
    deadline = item.config.getoption("--deadline")
    if deadline is not None and time.monotonic() - _START > deadline:
        pytest.skip("no time left")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Skip a test that imports an absent package while it runs."""
    try:
        return (yield)
    except ImportError as error:
        required = _REQUIRED.search(str(error))
        package = absent_package(required[1].lower() if required else error.name)
        if package is None or not (required or isinstance(error, ModuleNotFoundError)):
            raise
        pytest.skip(f"{package} is not installed")
