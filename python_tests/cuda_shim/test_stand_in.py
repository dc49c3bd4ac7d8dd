"""The stand-in for CUDA finds what it promises to find."""

from __future__ import annotations

import ctypes

import pytest
from conftest import SHIM

MISTAKES = [
    "shared memory is read after another thread's write without a barrier",
    "shared memory is written after another thread's read without a barrier",
    "shared memory is read that nobody wrote",
    "not all threads of a block reach a barrier",
    "a warp operation waits for lanes that do not come",
    "shared array of 64 is indexed with 64",
    "",
    "?",
]


@pytest.mark.parametrize(("kernel", "message"), list(enumerate(MISTAKES)))
def test_mistakes_are_found(kernel, message):
    run = ctypes.CDLL(SHIM).run_faulty_kernel
    run.restype = ctypes.c_char_p
    found = run(kernel).decode()
    assert (message in found) if message else found == ""
