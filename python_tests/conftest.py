"""Fixtures shared by all tests: golden values, real images, deterministic seeds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

try:
    from hypothesis import settings
except ImportError:
    import without_hypothesis

    without_hypothesis.install()
    from hypothesis import settings

# In CI the examples are the same every time; elsewhere every run tries others.
settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

GOLDEN = Path(__file__).parent / "golden"


def pytest_configure(config: pytest.Config) -> None:
    """Register what pytest-timeout would, where it is not installed, and let several workers share the cores."""
    config.addinivalue_line("markers", "timeout(seconds): see pytest-timeout")
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        threads = max(1, (os.cpu_count() or 1) // workers)
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # of the processes that tests start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none: `-m gpu` is everything that a machine with one adds.

    Where several workers share the files, those with slow tests come first: none is left alone with them at the end.
    """
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The folder of numbers produced by the original implementation."""
    return GOLDEN


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images; tests that need it are skipped where it is not there."""
    root = os.environ.get("MASKFORMER_EXT_DATA")
    if not root:
        pytest.skip("MASKFORMER_EXT_DATA does not name a folder of real images")
    return Path(root)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
