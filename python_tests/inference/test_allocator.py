"""Freed memory stays with the process of a command, unless its user has chosen an allocator."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# a block of 64 MiB costs no page fault any more where those before it were kept
_TOUCH = """
import resource
import torch
from maskformer_ext.inference.allocator import keep_freed_memory
kept = keep_freed_memory()
def faults():
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin
first, *_, last = [faults() for _ in range(4)]
print(kept, last < first / 10)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
@pytest.mark.parametrize("settings, expected", [({}, "True True"), ({"MALLOC_ARENA_MAX": "1"}, "False False")])
def test_freed_memory_is_kept(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], expected: str) -> None:
    for name in ("LD_PRELOAD", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", _TOUCH], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
