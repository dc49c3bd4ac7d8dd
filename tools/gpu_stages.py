"""The stages of gpu_check.py: what each one runs and needs, and how its log is judged."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gpu_logs
from cuda_report import find_nvcc

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path(__file__).resolve().parent
# The list of ops, without the package: it would load the libraries that the first stage builds.
_OPS = runpy.run_path(str(ROOT / "maskformer_ext" / "ops" / "catalog.py"))["OPS"]
# The small cases of every kernel. They take the fixture `kernels`, which runs them on the GPU.
_KERNEL_TESTS = ("python_tests/ops", "-m", "gpu", "-k", "[cuda")
# Time may run out, so what users call least, or is a part of another benchmark, comes last.
_MINOR_BENCHMARKS = tuple(f"bench_{op.name}" for op in _OPS if op.minor)
_PROBE = """
import json
from maskformer_ext.ops.support import library
print(json.dumps({"error": library.CPU_ERROR or library.CUDA_ERROR, "ops": sorted(library._KERNELS["cuda"])}))
"""


@dataclass
class Outcome:
    """The result of a stage. `detail` is one line; `facts` go into the JSON."""

    status: Literal["passed", "failed", "skipped"]
    detail: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """One stage's run: the GPU's properties, its log, and the seconds that it may take."""

    gpu: dict[str, Any]
    log: Path
    seconds: float

    def command(self, *command: str | Path, seconds: float | None = None, **variables: str) -> tuple[int | None, str]:
        """Run a command below a time limit, with its output in the log.

        Returns:
            Its status, None where it came too late, and its output.
        """
        limit = self.seconds if seconds is None else min(seconds, self.seconds)
        environment = {**os.environ, **variables}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TOOLS), os.environ.get("PYTHONPATH")]))
        with self.log.open("a+") as log:
            log.write(f"$ {' '.join(map(str, command))}\n")
            log.flush()
            begin = log.tell()
            # A process group of its own, so that what it has started ends with it.
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                status: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _end(process)
            log.seek(begin)
            return status, log.read()

    def python(self, *arguments: str | Path, **options: Any) -> tuple[int | None, str]:
        """Run this Python."""
        return self.command(sys.executable, *arguments, **options)


def _end(process: subprocess.Popen) -> None:
    """End a process and its children, first politely: compute-sanitizer and pytest then close their files."""
    for kind, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, kind)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _pytest(*arguments: str | Path, seconds: float) -> list[str | Path]:
    """Return the arguments of a pytest run that begins nothing in the last tenth of its time."""
    plugin = ["-p", "pytest_gpu", "-p", "no:cacheprovider", "--deadline", f"{0.9 * seconds - 5:.0f}"]
    return ["-m", "pytest", "-q", "-rs", *plugin, *arguments]


def _judged(status: int | None, log: str, seconds: float) -> Outcome:
    """Judge a run of pytest."""
    counts, reasons = gpu_logs.pytest_counts(log), gpu_logs.skip_reasons(log)
    facts = {"counts": counts, "skipped": reasons}
    detail = ", ".join(f"{count} {name}" for name, count in counts.items() if name != "deselected")
    if reasons:
        detail += f" ({'; '.join(f'{count} {reason}' for reason, count in list(reasons.items())[:3])})"
    if status is None:
        return Outcome("failed", f"not finished after {seconds:.0f} s: {gpu_logs.last_lines(log, 1)}", facts)
    if "needs a GPU" in reasons:
        return Outcome("failed", f"torch found no GPU any more: {detail}", facts)
    if status != 0 or not counts.get("passed"):
        return Outcome("failed", detail or f"pytest ended with {status}: {gpu_logs.last_lines(log)}", facts)
    return Outcome("passed", detail, facts)


def build(run: Run) -> Outcome:
    """Compile the libraries for the GPU present, and load them."""
    if find_nvcc() is None:
        return Outcome("failed", "no nvcc was found in CUDA_HOME, in CUDA_PATH, on PATH or in /usr/local/cuda")
    major, minor = run.gpu["capability"]
    folder = ROOT / "build" / f"gpu_check-{sys.implementation.cache_tag}-torch{run.gpu['versions']['torch']}"
    status, log = run.python(
        "setup.py",
        "-q",
        "build_ext",
        "--inplace",
        CMAKE_ARGS=f"-DMASKFORMER_EXT_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES={major}{minor}-real",
        MASKFORMER_EXT_BUILD_DIR=str(folder),  # a build for all architectures keeps its own folder
    )
    if status != 0:
        late = f"not finished after {run.seconds:.0f} s: " if status is None else ""
        return Outcome("failed", late + gpu_logs.last_lines(log))
    status, log = run.python("-c", _PROBE, seconds=60.0)
    if status != 0:
        return Outcome("failed", gpu_logs.last_lines(log))
    loaded = json.loads(log.splitlines()[-1])
    if loaded["error"]:
        return Outcome("failed", loaded["error"])
    return Outcome("passed", f"sm_{major}{minor}, {len(loaded['ops'])} ops with CUDA kernels", {"ops": loaded["ops"]})


def tests(run: Run) -> Outcome:
    """Run every test that needs a GPU."""
    status, log = run.python(*_pytest("python_tests", "-m", "gpu or cuda_library", seconds=run.seconds))
    return _judged(status, log, run.seconds)


def cpu_tests(run: Run) -> Outcome:
    """Run the tests that need none."""
    # The pages do not hold the figures of this run yet.
    pages = "python_tests/benchmarks/test_benchmarks.py::test_the_pages_show_what_was_recorded"
    options = ["-m", "not gpu and not cuda_library and not slow", "--deselect", pages]
    status, log = run.python(*_pytest("python_tests", *options, seconds=run.seconds))
    return _judged(status, log, run.seconds)


def find_sanitizer() -> str | None:
    """Find compute-sanitizer: in a CUDA toolkit, on PATH, or in the usual place."""
    nvcc = find_nvcc()
    toolkits = [Path(nvcc).resolve().parent.parent] if nvcc else []
    toolkits += [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    on_path = shutil.which("compute-sanitizer")
    places = [folder / "compute-sanitizer" for toolkit in toolkits for folder in (toolkit / "bin", toolkit)]
    places += [Path(on_path)] if on_path else []
    places += [Path("/usr/local/cuda/bin/compute-sanitizer"), Path("/usr/local/cuda/compute-sanitizer")]
    for place in places:
        for candidate in (place, place / "compute-sanitizer"):
            if candidate.is_file():
                return str(candidate)
    return None


def _sanitize(run: Run, tool: str, few: int) -> Outcome:
    """Run the smallest cases of every kernel under one tool, once it has found a planted mistake."""
    sanitizer = find_sanitizer()
    if sanitizer is None:
        return Outcome("skipped", "compute-sanitizer is not installed")
    options = ["--tool", tool]
    if tool != "initcheck":
        # Only this library's kernels are instrumented: torch's would take most of the time.
        options += ["--kernel-name", "kns=maskformer_ext"]
    else:  # it has to see what torch's kernels write, but no finding in them counts
        options += ["--print-limit", "10000"]
    if tool == "memcheck":
        options += ["--report-api-errors", "no"]
    canary = run.log.with_suffix(".canary")
    major, minor = run.gpu["capability"]
    source, nvcc = TOOLS / "sanitizer_canary.cu", find_nvcc() or "nvcc"
    status, log = run.command(nvcc, f"-arch=sm_{major}{minor}", "-o", canary, source)
    if status != 0:
        return Outcome("failed", f"tools/sanitizer_canary.cu does not compile: {gpu_logs.last_lines(log)}")
    _, log = run.command(sanitizer, *options, canary, tool, seconds=60.0)
    canary.unlink()
    if "not supported" in log:
        return Outcome("skipped", f"compute-sanitizer cannot run here: {gpu_logs.last_lines(log, 1)}")
    planted = gpu_logs.sanitizer_counts(log)
    if not planted or not planted["errors"]:
        return Outcome("failed", f"{tool} does not find the mistake planted in tools/sanitizer_canary.cu")
    call = _pytest(*_KERNEL_TESTS, "--few", str(few), seconds=run.seconds)
    # Without torch's cache every tensor is an allocation of its own, and memcheck knows where it ends.
    variables: Any = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "MASKFORMER_EXT_SMALL_TESTS": "1"}
    status, log = run.command(sanitizer, *options, sys.executable, *call, **variables)
    outcome, counts = _judged(status, log, run.seconds), gpu_logs.sanitizer_counts(log)
    findings = gpu_logs.sanitizer_findings(log, limit=None)
    if tool == "initcheck":
        findings = [finding for finding in findings if "maskformer_ext" in finding]
        if counts is not None:
            counts["errors"] = sum(map(gpu_logs.times, findings))
    outcome.facts.update(sanitizer=counts, findings=findings[:20])
    if counts is None:
        return Outcome("failed", f"{tool} wrote no summary: {outcome.detail}", outcome.facts)
    found = f"{counts['errors']} errors, {counts['warnings']} warnings; {outcome.detail}"
    if counts["errors"]:
        return Outcome("failed", f"{found}: {'; '.join(findings[:3])}", outcome.facts)
    return Outcome(outcome.status, found, outcome.facts)


def memcheck(run: Run) -> Outcome:
    """Look for accesses out of bounds."""
    return _sanitize(run, "memcheck", few=6)


def racecheck(run: Run) -> Outcome:
    """Look for unordered accesses to shared memory."""
    return _sanitize(run, "racecheck", few=2)


def synccheck(run: Run) -> Outcome:
    """Look for barriers that not all threads reach."""
    return _sanitize(run, "synccheck", few=2)


def initcheck(run: Run) -> Outcome:
    """Look for reads of global memory that nobody wrote."""
    return _sanitize(run, "initcheck", few=1)


def bench(run: Run) -> Outcome:
    """Run the benchmarks of the GPU."""
    records = run.log.with_suffix(".records.json")
    records.unlink(missing_ok=True)
    files = sorted((ROOT / "benchmarks").glob("bench_*.py"), key=lambda path: (path.stem in _MINOR_BENCHMARKS, path))
    options: list[str | Path] = ["--device", "cuda", "-k", "on_a_gpu", "--record-to", records]
    call = _pytest(*files, *options, seconds=run.seconds)
    status, log = run.python(*call)
    outcome = _judged(status, log, run.seconds)
    outcome.facts["records"] = str(records)
    return outcome


@dataclass(frozen=True)
class Stage:
    """A stage, and its seconds in a budget of nine minutes."""

    name: str
    share: float
    call: Callable[[Run], Outcome]

    @property
    def about(self) -> str:
        """Describe what the stage does, in its docstring's words."""
        return (self.call.__doc__ or "").strip().rstrip(".")


STAGES = (
    Stage("build", 130.0, build),
    Stage("tests", 75.0, tests),
    Stage("memcheck", 50.0, memcheck),
    Stage("racecheck", 40.0, racecheck),
    Stage("synccheck", 25.0, synccheck),
    Stage("initcheck", 30.0, initcheck),
    Stage("bench", 190.0, bench),
)
CPU_TESTS = Stage("cpu-tests", 600.0, cpu_tests)
