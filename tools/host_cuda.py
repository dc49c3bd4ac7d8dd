"""Run the CUDA kernels on the host, against the CPU's results: for machines without a GPU, and for what a GPU hides.

It compiles every csrc/*/*.cu and binding_cuda.cpp as C++ with AddressSanitizer, on the stand-in for CUDA in
csrc/host_cuda. Only what changed is compiled again. Then it runs the tests of the stand-in and those of the ops that
take the fixture `kernels` (python_tests/ops/conftest.py). `--build` only compiles. Other arguments are passed on to
pytest.
"""

import fcntl
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sanitizer_flags
import torch

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "host_cuda"
TESTS = [ROOT / "python_tests" / "host_cuda", ROOT / "python_tests" / "ops"]
TORCH = Path(torch.__file__).resolve().parent
HEADER = ROOT / "csrc" / "torch" / "checks.h"  # includes torch's headers: half of the time of a binding
PRECOMPILED = str(FOLDER / "checks.h")
# -g1 keeps line numbers only: all of -g takes half as long again to compile. Below -O1 the code compiles faster, but
# runs slower.
FLAGS = [
    *("-std=c++20", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unknown-pragmas"),
    *(["-Werror"] if os.environ.get("CI") else []),  # every compiler has other warnings
    *("-DMASKFORMER_EXT_HOST_CUDA", "-DMASKFORMER_EXT_VARIANT=cuda", "-DTORCH_TARGET_VERSION=0x020b000000000000"),
    "-DMASKFORMER_EXT_GPU_FUNCTIONS",
    "-DMASKFORMER_EXT_CACHED_FLOATS=1024",  # small tests need several bands or chunks
    *(f"-I{ROOT / 'csrc' / 'host_cuda' / 'include'}", f"-I{ROOT / 'csrc'}", "-isystem", str(TORCH / "include")),
]
# Every access of a kernel calls a function of ours, csrc/host_cuda/runtime/global_memory.cpp.
KERNEL_FLAGS = ["-fsanitize=thread,undefined", "-fno-sanitize-recover=all"]
if {"avx2", "fma"} <= set(Path("/proc/cpuinfo").read_text().split()):
    KERNEL_FLAGS += ["-mavx2", "-mfma", "-ffp-contract=fast"]  # nvcc joins products and sums


def is_new(output: Path, command: list[str]) -> bool:
    """Return whether this command made a file after the last change of all that the compiler read for it."""
    made, read = output.with_name(output.name + ".command"), output.with_name(output.name + ".d")
    if not (output.exists() and made.exists() and read.exists()) or made.read_text() != shlex.join(command):
        return False
    files = [Path(name) for name in read.read_text().replace("\\\n", " ").partition(": ")[2].split()]
    if PRECOMPILED in command:  # the compiler does not list it
        files.append(Path(f"{PRECOMPILED}.gch"))
    return all(file.exists() and file.stat().st_mtime <= output.stat().st_mtime for file in files)


def compile_one(source: Path, output: Path, *options: str) -> Path:
    """Compile a source unless its output is up to date."""
    command = ["g++", *FLAGS, *options, "-c", str(source), "-o", str(output)]
    if not is_new(output, command):
        dependencies = ["-MD", "-MF", f"{output}.d"]
        subprocess.run([*command, *dependencies], cwd=ROOT, check=True)
        output.with_name(output.name + ".command").write_text(shlex.join(command))
    return output


def build() -> Path:
    """Build the library and return its path."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    kernels, bindings = (sorted(ROOT.glob(f"csrc/*/{pattern}")) for pattern in ("*.cu", "binding_cuda.cpp"))
    runtime = sorted(ROOT.glob("csrc/host_cuda/runtime/*.cpp"))
    with open(FOLDER / "lock", "w") as lock, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs of the tests build one library

        def submit(source: Path, *options: str):
            return pool.submit(compile_one, source, FOLDER / f"{source.parent.name}-{source.name}.o", *options)

        checked = sanitizer_flags.FLAGS
        header = pool.submit(
            compile_one, HEADER, Path(f"{PRECOMPILED}.gch"), *checked, "-w", "-Wno-error", "-x", "c++-header"
        )
        jobs = [submit(source, *KERNEL_FLAGS, "-x", "c++") for source in (*kernels, *sorted(TESTS[0].glob("*.cpp")))]
        jobs += [submit(source, *checked) for source in runtime]
        header.result()
        jobs += [submit(source, *checked, "-include", PRECOMPILED) for source in bindings]
        objects = [job.result() for job in jobs]
        library = FOLDER / "_ops_host_cuda.so"
        if not library.exists() or library.stat().st_mtime < max(one.stat().st_mtime for one in objects):
            link = ["g++", "-shared", *sanitizer_flags.FLAGS, *map(str, objects), f"-L{TORCH / 'lib'}", "-ltorch_cpu"]
            subprocess.run([*link, "-o", str(library)], cwd=ROOT, check=True)
    return library


def main() -> int:
    """Build, then run the tests."""
    try:
        library = build()
    except subprocess.CalledProcessError as error:
        return error.returncode  # the compiler has said why
    if sys.argv[1:] == ["--build"]:
        return 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *sys.argv[1:], *map(str, TESTS)]
    environment = sanitizer_flags.environment(MASKFORMER_EXT_HOST_CUDA=str(library), OMP_NUM_THREADS="1")
    # Where only a sample of the blocks runs, the next kernel reads what none has written. torch fills what others read.
    environment["ASAN_OPTIONS"] += ":max_malloc_fill_size=0"
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
