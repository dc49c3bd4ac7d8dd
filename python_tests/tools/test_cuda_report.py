"""What ptxas and machine code say of the CUDA kernels. No kernel spills or costs more than accepted. Needs no GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TOOL = HERE.parents[1] / "tools" / "cuda_report.py"
sys.path.insert(0, str(TOOL.parent))
import cuda_report as report  # noqa: E402
from sass import binaries, ptxas, tables  # noqa: E402
from sass.count import count  # noqa: E402
from sass.work import Stage  # noqa: E402

NEEDS_NVCC = pytest.mark.skipif(
    binaries.find_program("nvcc") is None or binaries.find_program("cuobjdump") is None, reason="needs nvcc, cuobjdump"
)
PTXAS = """
ptxas info    : Compiling entry function '_Z1fPf' for 'sm_90a'
ptxas info    : Function properties for _Z1fPf
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem, 400 bytes cmem[0]
"""


def test_the_report_reads_what_ptxas_writes():
    (kernel,) = ptxas.parse(PTXAS)
    assert (kernel.architecture, kernel.registers, kernel.shared, kernel.stack, kernel.spills) == (90, 40, 1024, 8, 16)


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH", "PATH"])
def test_nvcc_is_found_where_the_build_finds_it(monkeypatch, tmp_path, variable):
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/no/such/folder")
    monkeypatch.setenv(variable, str(nvcc.parent if variable == "PATH" else tmp_path))
    assert report.find_nvcc() == str(nvcc)


def test_the_log_of_a_build_is_read_while_it_is_current(monkeypatch, tmp_path):
    source = tmp_path / "csrc" / "op" / "op.cu"
    objects = tmp_path / "build" / "tag" / "CMakeFiles" / "_ops_cuda.dir" / "csrc" / "op"
    compiled, log = objects / "op.cu.o", objects / "op.cu.o.ptxas"
    for second, (path, text) in enumerate([(source, ""), (log, PTXAS), (compiled, "")]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (100 + second, 100 + second))
    monkeypatch.setattr(binaries, "ROOT", tmp_path)
    assert binaries.built_object(source) == compiled
    os.utime(log, (103, 103))
    assert binaries.built_object(source) is None, "a compilation that failed"
    os.utime(log, (101, 101))
    os.utime(source, (102.5, 102.5))
    assert binaries.built_object(source) is None, "a source that changed since"


def test_the_compilers_log_stays_beside_the_object_and_the_rest_is_shown(tmp_path):
    """What runs nvcc in the build."""
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\ncat >&2 <<'X'\nwarning: one\n{PTXAS}X\nexit 3\n")
    compiler.chmod(0o755)
    command = ["sh", str(TOOL.parents[1] / "cmake" / "keep_ptxas.sh"), str(compiler), "-c", "x.cu", "-o", "x.o", "-O3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 3 and done.stderr.strip() == "warning: one"
    assert PTXAS in (tmp_path / "x.o.ptxas").read_text()


def test_without_cuobjdump_one_sentence_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(binaries, "find_program", lambda name: None if name == "cuobjdump" else "nvcc")
    monkeypatch.setattr(sys, "argv", ["cuda_report.py", "--json"])
    assert report.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no cuobjdump" in line and "pip install triton" in line


def test_a_reader_that_fails_says_why(tmp_path):
    program = tmp_path / "cuobjdump"
    program.write_text("#!/bin/sh\necho 'fatal: no nvdisasm' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(SystemExit, match="cuda_report: fatal: no nvdisasm"):
        binaries.read_kernels(str(program), tmp_path / "x.o")


@NEEDS_NVCC
@pytest.mark.timeout(0)
def test_a_doubled_loop_is_seen_in_what_the_compiler_makes(tmp_path):
    nvcc, cuobjdump = binaries.find_program("nvcc"), binaries.find_program("cuobjdump")
    assert nvcc and cuobjdump
    binary = tmp_path / "sums.fatbin"
    assert "Used" in binaries.compile_kernels(nvcc, HERE / "sass" / "sums.cu", (90,), binary)
    kernels = {kernel.name: kernel for kernel in binaries.read_kernels(cuobjdump, binary)}
    assert [(one.threads, one.promised) for one in kernels.values() if one.name == "plain_kernel"] == [(128, 4)]
    stage = Stage("sums", "sums", "plain_kernel", "element", r"MUFU\.EX2")
    plain, doubled = count(stage, kernels["plain_kernel"]), count(stage, kernels["doubled_kernel"])
    assert plain is not None and tables.changes(stage, plain, plain) == []
    assert "instructions per element" in tables.changes(stage, doubled, plain)[0]


@NEEDS_NVCC
@pytest.mark.timeout(0)
def test_the_counts_of_a_source_are_printed_as_json():
    source = TOOL.parents[1] / "csrc" / "dice_loss" / "dice_loss.cu"
    done = subprocess.run([sys.executable, str(TOOL), "--built", "--json", str(source)], capture_output=True, text=True)
    counts = {one["stage"]: one for one in json.loads(done.stdout)}
    assert set(counts) == {"dice_loss forward", "dice_loss backward"}
    assert all(one["instructions"] > 0 and one["registers"] > 0 and one["threads"] > 0 for one in counts.values())


@pytest.mark.slow
@pytest.mark.timeout(0)  # where there is no current build it compiles, and a compiler's time is no test's
@pytest.mark.skipif(binaries.find_program("nvcc") is None, reason="needs nvcc")
def test_no_kernel_spills_or_costs_more_than_accepted():
    done = subprocess.run([sys.executable, str(TOOL), "--check", "--built"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
