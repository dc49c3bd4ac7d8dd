"""The CUDA kernels' logic, run on the host."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "host_cuda.py"


@pytest.mark.slow
@pytest.mark.timeout(0)  # it compiles where something changed; each of the tests that it runs has a limit of its own
def test_cuda_kernels_on_the_host():
    done = subprocess.run([sys.executable, str(TOOL)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
