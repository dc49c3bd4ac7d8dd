"""The stand-in for CUDA finds what it promises to find."""

from __future__ import annotations

import ctypes
import os
import re

import pytest
import stand_in
import torch

HOST_CUDA = os.environ["MASKFORMER_EXT_HOST_CUDA"]

MISTAKES = {
    # which of the two threads comes first depends on the order
    "reads_without_barrier": "without a barrier|nobody wrote",
    "writes_what_another_reads": "without a barrier",
    "reads_what_nobody_wrote": "shared memory is read that nobody wrote",
    "misses_a_barrier": "not all threads of a block reach a barrier",
    "misses_a_warp_operation": "a warp operation waits for lanes that do not come",
    "leaves_its_array": "shared array of 64 is indexed with 64",
    "waits_at_two_barriers": "the threads of a block wait at two barriers",
    "votes_in_two_places": "the lanes of a warp wait in two warp operations",
    "relies_on_a_shuffle": "shared memory is (read|written) after another thread.s (write|read) without a barrier",
    "has_no_blocks": r"a grid of \(0, 1, 1\) blocks of 64 threads cannot be launched",
    "has_too_many_rows_of_blocks": r"a grid of \(1, 65536, 1\) blocks of 64 threads cannot be launched",
    "has_no_guard": "a launch without a device guard",
    "takes_another_stream": "a launch on another stream than the guard's",
    "hands_over_without_barrier": "memory is (read|written) after another thread's (write|read) without a barrier",
    "overwrites_what_another_reads": "memory is (read|written) after another thread's (write|read) without a barrier",
    "reads_another_blocks_result": "a block (reads what another block of the launch writes|writes what another)",
    "two_blocks_write_one_result": "two blocks of a launch write to the same memory",
    "leaves_its_tensor": "memory is touched that belongs to no tensor",
    "adds_floats_in_any_order": "an atomic operation on floats",
    "adds_to_what_another_block_sets": "two blocks of a launch write to the same memory",
    "reads_its_own_result_through_the_read_only_cache": "is read through the read-only cache",
    "counts_elements_in_32_bits": "memory is touched that belongs to no tensor",
    "copies_from_between": "an asynchronous copy from an address that is no multiple of 16",
    "forgets_to_wait_for_a_copy": "shared memory is read while a copy to it is under way",
    "waits_for_one_group_too_few": "shared memory is read while a copy to it is under way",
    "waits_but_passes_no_barrier": "while a copy to it is under way|without a barrier|nobody wrote",
    "changes_what_is_being_copied": "what an asynchronous copy reads was changed",
    "relies_on_exact_functions": "found a difference",
    # without a mistake
    "reads_four_words_apart": "",
    "hands_over_behind_a_barrier": "",
    "writes_neighbouring_bytes": "",
    "counts_elements_in_64_bits": "",
    "copies_and_waits": "",
    "has_no_mistake": "",
}


def test_every_kernel_with_a_mistake_is_tried():
    assert stand_in.library().faulty_kernels().decode().split() == sorted(MISTAKES)


@pytest.mark.parametrize("kernel", MISTAKES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_mistakes_are_found(kernel, seed):
    message = MISTAKES[kernel]
    with stand_in.configured(seed=seed):
        found = stand_in.library().run_faulty_kernel(kernel.encode()).decode()
    assert re.search(message, found) if message else found == ""


def test_rounding_can_be_left_out():
    with stand_in.configured(rounding=False):
        assert stand_in.library().run_faulty_kernel(b"relies_on_exact_functions") == b""


def test_bank_conflicts_are_counted():
    stand_in.banks()
    with stand_in.configured(banks=True):
        assert stand_in.library().run_faulty_kernel(b"reads_four_words_apart") == b""
    # Two warps write four times each without a conflict, then read once with four lanes per bank.
    assert sorted(row[1:] for row in stand_in.banks()) == [(2, 8, 2), (8, 8, 8)]


def test_twins_of_tensor_core_instructions_follow_the_ptx_isa():
    with stand_in.configured(rounding=False):
        assert stand_in.library().check_fragments().decode() == ""


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
