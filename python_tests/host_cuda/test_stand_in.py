"""The stand-in for CUDA finds what it promises to find."""

from __future__ import annotations

import ctypes
import os
import re

import pytest
import torch

HOST_CUDA = os.environ["MASKFORMER_EXT_HOST_CUDA"]

MISTAKES = [
    "without a barrier|nobody wrote",  # which of the two threads comes first depends on the order
    "without a barrier",
    "shared memory is read that nobody wrote",
    "not all threads of a block reach a barrier",
    "a warp operation waits for lanes that do not come",
    "shared array of 64 is indexed with 64",
    "the threads of a block wait at two barriers",
    "the lanes of a warp wait in two warp operations",
    "an asynchronous copy from an address that is no multiple of 16",
    r"a grid of \(0, 1, 1\) blocks of 64 threads cannot be launched",
    r"a grid of \(1, 65536, 1\) blocks of 64 threads cannot be launched",
    "another order of threads, another result",
    "",
    r"\?",
]


@pytest.mark.parametrize(("kernel", "message"), list(enumerate(MISTAKES)))
def test_mistakes_are_found(kernel, message):
    run = ctypes.CDLL(HOST_CUDA).run_faulty_kernel
    run.restype = ctypes.c_char_p
    found = run(kernel).decode()
    assert re.search(message, found) if message else found == ""


def test_twins_of_tensor_core_instructions_follow_the_ptx_isa():
    check = ctypes.CDLL(HOST_CUDA).check_fragments
    check.restype = ctypes.c_char_p
    assert check().decode() == ""


def test_workspaces_begin_with_rubbish():
    torch.use_deterministic_algorithms(True)  # as python_tests/ops/conftest.py does for every test
    try:
        assert torch.empty(16).isnan().all()
        assert (torch.empty(16, dtype=torch.int32) == torch.iinfo(torch.int32).max).all()
        assert torch.ops.aten.new_empty(torch.zeros(1), [16], dtype=torch.float64).isnan().all()
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_library_says_which_gpu_it_cannot_run_on():
    ask = ctypes.CDLL(HOST_CUDA).maskformer_ext_cuda_problem
    ask.restype = ctypes.c_char_p
    assert ask(0) is None
    assert ask(1) == b"invalid device ordinal"
