"""Run the CUDA kernels on the host, against the CPU's results: for machines without a GPU, and for what a GPU hides.

Compiles every csrc/*/*.cu and binding_cuda.cpp as C++ with AddressSanitizer, on the stand-in for CUDA in
csrc/host_cuda, and runs python_tests/cuda_shim with it. Only what changed is compiled again. Arguments are passed on to
pytest; `--build` only compiles.
"""

import fcntl
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sanitizers
import torch

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "cuda_shim"
TESTS = ROOT / "python_tests" / "cuda_shim"
TORCH = Path(torch.__file__).resolve().parent
HEADER = ROOT / "csrc" / "torch" / "checks.h"  # with torch's headers, half of the time of a binding
PRECOMPILED = str(FOLDER / "checks.h")
# Line numbers only: all of -g takes half as long again to compile. Less than -O1 compiles faster, and runs slower.
FLAGS = [
    *("-std=c++20", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unknown-pragmas"),
    *sanitizers.FLAGS,
    *(["-Werror"] if os.environ.get("CI") else []),  # every compiler has other warnings
    *("-DMASKFORMER_EXT_HOST_CUDA", "-DMASKFORMER_EXT_VARIANT=cuda", "-DTORCH_TARGET_VERSION=0x020b000000000000"),
    "-DMASKFORMER_EXT_CACHED_FLOATS=1024",  # small tests need several bands or chunks
    *(f"-I{ROOT / 'csrc' / 'host_cuda' / 'include'}", f"-I{ROOT / 'csrc'}", "-isystem", str(TORCH / "include")),
]


def is_new(output: Path, command: list[str]) -> bool:
    """Say whether a file was made by this command, after the last change of all that the compiler read for it."""
    made, read = output.with_name(output.name + ".command"), output.with_name(output.name + ".d")
    if not (output.exists() and made.exists() and read.exists()) or made.read_text() != shlex.join(command):
        return False
    files = [Path(name) for name in read.read_text().replace("\\\n", " ").partition(": ")[2].split()]
    if PRECOMPILED in command:  # of which the compiler lists nothing
        files.append(Path(f"{PRECOMPILED}.gch"))
    return all(file.exists() and file.stat().st_mtime <= output.stat().st_mtime for file in files)


def compile_one(source: Path, output: Path, *options: str) -> Path:
    """Compile a source unless that was done already."""
    command = ["g++", *FLAGS, *options, "-c", str(source), "-o", str(output)]
    if not is_new(output, command):
        dependencies = ["-MD", "-MF", f"{output}.d"]
        subprocess.run([*command, *dependencies], cwd=ROOT, check=True)
        output.with_name(output.name + ".command").write_text(shlex.join(command))
    return output


def build() -> Path:
    """Build the library; return its path."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    kernels, bindings = (sorted(ROOT.glob(f"csrc/*/{pattern}")) for pattern in ("*.cu", "binding_cuda.cpp"))
    with open(FOLDER / "lock", "w") as lock, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs of the tests build one library

        def submit(source: Path, *options: str):
            return pool.submit(compile_one, source, FOLDER / f"{source.parent.name}-{source.name}.o", *options)

        header = pool.submit(compile_one, HEADER, Path(f"{PRECOMPILED}.gch"), "-w", "-Wno-error", "-x", "c++-header")
        jobs = [submit(source, "-x", "c++") for source in (*kernels, *sorted(TESTS.glob("*.cpp")))]
        header.result()
        jobs += [submit(source, "-include", PRECOMPILED) for source in bindings]
        objects = [job.result() for job in jobs]
        library = FOLDER / "_ops_cuda_shim.so"
        if not library.exists() or library.stat().st_mtime < max(one.stat().st_mtime for one in objects):
            link = ["g++", "-shared", *sanitizers.FLAGS, *map(str, objects), f"-L{TORCH / 'lib'}", "-ltorch_cpu"]
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
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *sys.argv[1:], str(TESTS)]
    variables = {"MASKFORMER_EXT_CUDA_SHIM": str(library), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=sanitizers.environment(**variables)).returncode


if __name__ == "__main__":
    sys.exit(main())
