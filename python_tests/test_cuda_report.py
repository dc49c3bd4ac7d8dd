"""What ptxas says of the CUDA kernels: none spills. Needs nvcc, no GPU."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[1] / "tools" / "cuda_report.py"
PTXAS = """
ptxas info    : Compiling entry function '_Z1fPf' for 'sm_90a'
ptxas info    : Function properties for _Z1fPf
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem, 400 bytes cmem[0]
"""


def test_the_report_reads_what_ptxas_writes():
    spec = importlib.util.spec_from_file_location("cuda_report", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["cuda_report"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    (kernel,) = module.parse(PTXAS)
    assert (kernel.architecture, kernel.registers, kernel.shared, kernel.stack, kernel.spills) == (90, 40, 1024, 8, 16)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_no_kernel_spills():
    done = subprocess.run([sys.executable, str(TOOL), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
