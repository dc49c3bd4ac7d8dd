"""The CUDA kernels' logic, run on the host."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_cuda_kernels_on_the_host():
    tool = Path(__file__).resolve().parents[1] / "tools" / "test_cuda_shim.py"
    done = subprocess.run([sys.executable, str(tool)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
