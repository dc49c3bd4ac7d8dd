"""What ptxas says of the CUDA kernels: none spills. Needs nvcc, no GPU."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "cuda_report.py"
PTXAS = """
ptxas info    : Compiling entry function '_Z1fPf' for 'sm_90a'
ptxas info    : Function properties for _Z1fPf
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem, 400 bytes cmem[0]
"""


@pytest.fixture
def report(monkeypatch):
    spec = importlib.util.spec_from_file_location("cuda_report", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "cuda_report", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_report_reads_what_ptxas_writes(report):
    (kernel,) = report.parse(PTXAS)
    assert (kernel.architecture, kernel.registers, kernel.shared, kernel.stack, kernel.spills) == (90, 40, 1024, 8, 16)


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH", "PATH"])
def test_nvcc_is_found_where_the_build_finds_it(report, monkeypatch, tmp_path, variable):
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/no/such/folder")
    monkeypatch.setenv(variable, str(nvcc.parent if variable == "PATH" else tmp_path))
    assert report.find_nvcc() == str(nvcc)


def test_the_log_of_a_build_is_read_while_it_is_current(report, monkeypatch, tmp_path):
    source = tmp_path / "csrc" / "op" / "op.cu"
    objects = tmp_path / "build" / "tag" / "CMakeFiles" / "_ops_cuda.dir" / "csrc" / "op"
    compiled, log = objects / "op.cu.o", objects / "op.cu.o.ptxas"
    for second, (path, text) in enumerate([(source, ""), (log, PTXAS), (compiled, "")]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (100 + second, 100 + second))
    monkeypatch.setattr(report, "ROOT", tmp_path)

    def spills() -> list[int]:
        return [kernel.spills for kernel in report.built_report(source, tmp_path / "build")]

    assert spills() == [16]
    os.utime(log, (103, 103))
    assert spills() == [], "a compilation that failed"
    os.utime(log, (101, 101))
    os.utime(source, (102.5, 102.5))
    assert spills() == [], "a source that changed since"


def test_the_compilers_log_stays_beside_the_object_and_the_rest_is_shown(tmp_path):
    """What runs nvcc in the build."""
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\ncat >&2 <<'X'\nwarning: one\n{PTXAS}X\nexit 3\n")
    compiler.chmod(0o755)
    command = ["sh", str(TOOL.parents[1] / "cmake" / "keep_ptxas.sh"), str(compiler), "-c", "x.cu", "-o", "x.o", "-O3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 3 and done.stderr.strip() == "warning: one"
    assert PTXAS in (tmp_path / "x.o.ptxas").read_text()


@pytest.mark.slow
@pytest.mark.timeout(0)  # where there is no current build it compiles, and a compiler's time is no test's
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_no_kernel_spills():
    done = subprocess.run([sys.executable, str(TOOL), "--check", "--built"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
