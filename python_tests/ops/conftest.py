"""The fixture `kernels`: the ops on the CPU, on the host stand-in for CUDA, or on a GPU (see kernels.py)."""

from __future__ import annotations

from collections.abc import Iterator

import kernels as kinds_of_kernels
import pytest
import torch
from kernels import HARNESS, HOST_CUDA, Kernels, host_cuda


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a test that takes `kernels` run on every kind of them."""
    kinds_of_kernels.parametrize(metafunc)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is of the CPU only, in a process for the other kernels."""
    if HOST_CUDA is None and not HARNESS:
        return
    here = [item for item in items if item.path.is_relative_to(config.rootpath / "python_tests" / "ops")]
    left_out = [item for item in here if "kernels" not in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=left_out)
    gone = set(map(id, left_out))
    items[:] = [item for item in items if id(item) not in gone]


@pytest.fixture(scope="session")
def kernels(request: pytest.FixtureRequest) -> Iterator[Kernels]:
    """The ops on one kind of kernels."""
    if request.param == "host_cuda":
        host_cuda.install()
    yield Kernels(request.param)
    if request.param == "host_cuda":
        host_cuda.uninstall()


@pytest.fixture(autouse=HOST_CUDA is not None)
def rubbish_in_new_memory() -> Iterator[None]:
    """Let whatever torch allocates hold NaN or the largest integer, so that reading what nobody wrote shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
