"""`make gpu-check` as far as it goes without a GPU: its plan, its budget, how it reads logs, and what it skips."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"
sys.path.insert(0, str(TOOLS))
import gpu_check  # noqa: E402
import gpu_logs  # noqa: E402
import gpu_stages  # noqa: E402
import pytest_gpu  # noqa: E402

GPU = {"name": "NVIDIA H100 80GB HBM3", "capability": [9, 0], "versions": {"torch": "2.11.0+cu130"}}
MEMCHECK = """========= COMPUTE-SANITIZER
========= Invalid __global__ write of size 4 bytes
=========     at maskformer_ext::cuda::list_groups_kernel(Params)+0xd0 in matching_cost.cu:70
=========     by thread (1,0,0) in block (0,0,0)
=========     Address 0x7f5c5b200104 is out of bounds
========= Invalid __global__ write of size 4 bytes
=========     at maskformer_ext::cuda::list_groups_kernel(Params)+0xd0 in matching_cost.cu:70
=========     by thread (2,0,0) in block (0,0,0)
========= ERROR SUMMARY: 2 errors
"""
RACECHECK = """========= COMPUTE-SANITIZER
========= Error: Race reported between Write access at maskformer_ext::race_kernel(float *)+0xa0
=========     and Read access at maskformer_ext::race_kernel(float *)+0xc0 [64 hazards]
=========
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""
INITCHECK = """========= COMPUTE-SANITIZER
========= Uninitialized __global__ memory read of size 4 bytes
=========     at void at::native::copy_kernel(float *)+0x90
=========     by thread (1,0,0) in block (0,0,0)
========= Uninitialized __global__ memory read of size 4 bytes
=========     at maskformer_ext::cuda::gather_kernel(Params)+0x90
=========     by thread (1,0,0) in block (0,0,0)
========= ERROR SUMMARY: 2 errors
"""
SYNCCHECK = """========= COMPUTE-SANITIZER
========= Barrier error detected. Divergent thread(s) in block
=========     at maskformer_ext::divergent_barrier_kernel(float *)+0x60 in sanitizer_canary.cu:22
=========     by thread (0,0,0) in block (0,0,0)
========= ERROR SUMMARY: 1 error
"""
PYTEST = """....s
SKIPPED [3] python_tests/engine/test_gpu_step.py:19: needs two GPUs
SKIPPED [2] python_tests/test_x.py:4: scipy is not installed
============ 4 passed, 5 skipped, 9 deselected, 1 warning in 2.03s ============
"""


def tool(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(TOOLS / "gpu_check.py"), *arguments], capture_output=True, text=True)


def test_the_plan_names_every_stage_and_needs_no_gpu():
    done = tool("--dry-run", "--all-tests", "--minutes", "5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5 minutes in all\n")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [
        *("build", "tests", "memcheck", "racecheck", "synccheck", "initcheck", "bench", "cpu-tests")
    ]
    assert tool("--dry-run", "--only", "bench").stdout.count("\n") == 2
    assert "invalid choice: 'benches'" in tool("--only", "benches").stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_sentence():
    done = tool()
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "torch finds no GPU on this machine" in done.stderr


def test_what_a_stage_leaves_goes_to_the_later_ones():
    assert gpu_check.allowance([1.0, 3.0], 400.0) == 100.0
    assert gpu_check.allowance([3.0], 390.0) == 390.0
    assert gpu_check.allowance([1.0, 1.0], -5.0) == 0.0
    assert sum(stage.share for stage in gpu_check.STAGES) == 9 * 60


def test_sanitizer_logs_are_read():
    assert gpu_logs.sanitizer_counts(MEMCHECK) == {"errors": 2, "warnings": 0}
    assert gpu_logs.sanitizer_counts(RACECHECK) == {"errors": 1, "warnings": 0}
    assert gpu_logs.sanitizer_counts("========= Error: process didn't terminate successfully") is None
    assert gpu_logs.sanitizer_counts("========= ERROR SUMMARY: 0 errors") == {"errors": 0, "warnings": 0}
    assert gpu_logs.sanitizer_findings(MEMCHECK) == [
        "Invalid __global__ write of size 4 bytes in maskformer_ext::cuda::list_groups_kernel (2x)"
    ]
    (barrier,) = gpu_logs.sanitizer_findings(SYNCCHECK)
    assert barrier.startswith("Barrier error detected") and "divergent_barrier_kernel (1x)" in barrier
    uninitialized = gpu_logs.sanitizer_findings(INITCHECK)
    assert [gpu_logs.times(finding) for finding in uninitialized] == [1, 1]
    assert uninitialized[1] == (
        "Uninitialized __global__ memory read of size 4 bytes in maskformer_ext::cuda::gather_kernel (1x)"
    )
    (race,) = gpu_logs.sanitizer_findings(RACECHECK)
    assert race.startswith("Race reported between Write access at maskformer_ext::race_kernel") and "(1x)" in race


def test_pytest_logs_are_read():
    assert gpu_logs.pytest_counts(PYTEST) == {"passed": 4, "skipped": 5, "deselected": 9, "warning": 1}
    assert gpu_logs.pytest_counts("Fatal Python error") == {}
    assert gpu_logs.pytest_counts("1 failed, 2 errors in 0.10s") == {"failed": 1, "error": 2}
    assert gpu_logs.skip_reasons(PYTEST) == {"needs two GPUs": 3, "scipy is not installed": 2}
    outcome = gpu_stages._judged(0, PYTEST, 10.0)
    assert outcome.status == "passed" and "3 needs two GPUs" in outcome.detail
    assert gpu_stages._judged(0, "5 skipped in 1.00s", 10.0).status == "failed", "a run in which nothing ran"
    assert "no GPU any more" in gpu_stages._judged(0, PYTEST.replace("two GPUs", "a GPU"), 10.0).detail
    assert "not finished after 10 s" in gpu_stages._judged(None, "....", 10.0).detail


def test_a_stage_that_hangs_or_fails_stops_no_other(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "LOGS", tmp_path)

    def hangs(run):
        status, _ = run.python("-c", "print('begun', flush=True); import time; time.sleep(60)", seconds=1.0)
        return gpu_stages.Outcome("failed", str(status))

    late = gpu_check.run_stage(gpu_stages.Stage("hangs", 1.0, hangs), GPU, 10.0)
    assert late["status"] == "failed" and late["detail"] == "None" and late["seconds"] < 9
    assert "begun" in (tmp_path / "hangs.log").read_text()
    broken = gpu_check.run_stage(gpu_stages.Stage("breaks", 1.0, lambda run: 1 / 0), GPU, 10.0)
    assert broken["status"] == "failed" and "ZeroDivisionError" in broken["detail"]
    assert gpu_check.run_stage(gpu_stages.Stage("late", 1.0, hangs), GPU, 0.0)["detail"] == "no time left"


def _put_on_path(monkeypatch: pytest.MonkeyPatch, folder: Path, sanitizer: str) -> None:
    """Let a script be compute-sanitizer, and nvcc one that makes an empty file."""
    programs = {"nvcc": 'while [ "$1" != -o ]; do shift; done\n: > "$2"', "compute-sanitizer": sanitizer}
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.mark.parametrize(
    ("planted", "found", "status", "detail"),
    [
        ("ERROR SUMMARY: 64 errors", "ERROR SUMMARY: 0 errors", "passed", "0 errors, 0 warnings; 5 passed"),
        ("ERROR SUMMARY: 64 errors", "ERROR SUMMARY: 3 errors", "failed", "3 errors, 0 warnings; 5 passed"),
        ("ERROR SUMMARY: 64 errors", "", "failed", "memcheck wrote no summary: 5 passed"),
        ("ERROR SUMMARY: 0 errors", "", "failed", "memcheck does not find the mistake planted in"),
        ("Device not supported", "", "skipped", "compute-sanitizer cannot run here: ========= Device not supported"),
    ],
)
def test_a_sanitizer_counts_only_once_it_has_found_a_planted_mistake(
    monkeypatch, tmp_path, planted, found, status, detail
):
    sanitizer = f"""case "$*" in
        *pytest_gpu*) echo "5 passed in 1.00s"; echo "========= {found}";;
        *) echo "========= {planted}";;
        esac"""
    _put_on_path(monkeypatch, tmp_path, sanitizer)
    outcome = gpu_stages.memcheck(gpu_stages.Run(GPU, tmp_path / "memcheck.log", 30.0))
    assert outcome.status == status and outcome.detail.startswith(detail), outcome


@pytest.mark.parametrize(
    ("tool", "log", "status", "detail"),
    [
        ("synccheck", SYNCCHECK, "failed", "1 errors, 0 warnings; 5 passed: Barrier error detected"),
        ("initcheck", INITCHECK, "failed", "1 errors, 0 warnings; 5 passed: Uninitialized __global__ memory read"),
        ("initcheck", INITCHECK.replace("maskformer_ext", "at"), "passed", "0 errors, 0 warnings; 5 passed"),
    ],
)
def test_barriers_and_unwritten_memory_are_checked(monkeypatch, tmp_path, tool, log, status, detail):
    """initcheck watches torch's kernels too, to see what they write; what it says of them does not count."""
    arguments = tmp_path / "arguments.txt"
    (tmp_path / "log.txt").write_text(log)
    sanitizer = f"""case "$*" in
        *pytest_gpu*) echo "$*" > {arguments}; echo "5 passed in 1.00s"; cat {tmp_path}/log.txt;;
        *) echo "========= ERROR SUMMARY: 64 errors";;
        esac"""
    _put_on_path(monkeypatch, tmp_path, sanitizer)
    outcome = getattr(gpu_stages, tool)(gpu_stages.Run(GPU, tmp_path / f"{tool}.log", 30.0))
    assert outcome.status == status and outcome.detail.startswith(detail), outcome
    assert f"--tool {tool} " in arguments.read_text()
    assert ("kns=maskformer_ext" in arguments.read_text()) == (tool != "initcheck")


def test_results_of_an_earlier_run_stay_until_their_stage_runs_again(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check.report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(gpu_check, "LOGS", tmp_path)
    (tmp_path / "build.log").write_text("log")
    entry = {"name": "bench", "status": "passed", "detail": "a | b", "seconds": 2.0, "date": "2026-01-02T03:04:05"}
    first = gpu_check.merged(None, GPU, [entry, {**entry, "name": "build", "records": str(tmp_path / "none")}])
    second = gpu_check.merged(first, GPU, [{**entry, "status": "failed"}])
    assert [(e["name"], e["status"]) for e in second["stages"]] == [("build", "passed"), ("bench", "failed")]
    assert all("records" not in e for e in second["stages"])
    path, table = gpu_check.write(second, tmp_path / "out")
    assert path.name == "nvidia-h100-80gb-hbm3.json" and json.loads(path.read_text()) == second
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["build.log", path.name, table.name]
    text = table.read_text()
    assert text.startswith("# NVIDIA H100 80GB HBM3\n") and "torch 2.11.0+cu130" in text and "a / b" in text


def test_what_needs_an_absent_package_is_skipped(tmp_path):
    assert pytest_gpu.absent_package("no_such_package.sub") == "no_such_package"
    assert pytest_gpu.absent_package("torch.no_such_module") is None
    assert pytest_gpu.absent_package("maskformer_ext_") == "maskformer_ext_"
    assert pytest_gpu.evenly(10, 3) == [0, 4, 9] and pytest_gpu.evenly(2, 3) == [0, 1]
    (tmp_path / "test_imports.py").write_text("import no_such_package\n")
    (tmp_path / "test_runs.py").write_text(
        "import pytest\n\n\n"
        "def test_late():\n    import no_such_package.sub\n\n\n"
        "def test_own():\n    import maskformer_ext.no_such_module\n\n\n"
        "@pytest.mark.parametrize('case', range(10))\ndef test_many(case):\n    assert case in (0, 9)\n"
    )
    command = [sys.executable, "-m", "pytest", "-rs", "-q", "-p", "pytest_gpu", "--few", "2", str(tmp_path)]
    environment = {"PYTHONPATH": f"{TOOLS}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert gpu_logs.pytest_counts(done.stdout) == {"failed": 1, "passed": 2, "skipped": 2, "deselected": 8}
    assert list(gpu_logs.skip_reasons(done.stdout)) == ["no_such_package is not installed"]


def test_property_tests_are_skipped_without_hypothesis(tmp_path):
    (tmp_path / "test_property.py").write_text(
        "import without_hypothesis\n\nwithout_hypothesis.install()\n"
        "import pytest\nfrom hypothesis import given, settings\nfrom hypothesis import strategies as st\n"
        "from hypothesis.extra import numpy as hnp\n\n"
        "COSTS = hnp.arrays(float, st.integers(1, 3) | st.none())\n\n\n"
        "@settings(max_examples=3)\n@given(x=COSTS)\n@pytest.mark.parametrize('y', [1, 2])\n"
        "def test_property(x, y):\n    assert False\n\n\n"
        "def test_usual():\n    pass\n"
    )
    options = ["-rs", "-q", "-p", "no:hypothesispytest", str(tmp_path)]
    environment = {"PYTHONPATH": str(ROOT / "python_tests" / "shared"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert gpu_logs.pytest_counts(done.stdout) == {"passed": 1, "skipped": 2}, done.stdout
    assert "hypothesis is not installed" in done.stdout
