"""What only a GPU runs of the tests of the CUDA kernels: the harness, here with the CPU's kernels in their place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maskformer_ext.ops.support import library

TESTS = Path(__file__).resolve().parents[1] / "ops"


@pytest.mark.skipif(library.REFERENCE, reason="MASKFORMER_EXT_REFERENCE=1")
def test_the_tests_of_the_cuda_kernels_run_as_on_a_gpu():
    environment = {key: value for key, value in os.environ.items() if key != "MASKFORMER_EXT_HOST_CUDA"}
    environment |= {"MASKFORMER_EXT_CUDA_HARNESS": "cpu", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS)]
    done = subprocess.run(command, cwd=TESTS.parents[1], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
