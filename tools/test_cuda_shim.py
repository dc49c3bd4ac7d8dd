"""Run the CUDA kernels on the host, against the CPU's results: for machines without a GPU, and for what a GPU hides.

Compiles every csrc/*/*.cu and binding_cuda.cpp as C++ with AddressSanitizer, on the stand-in for CUDA in
python_tests/cuda_shim/include, and runs python_tests/cuda_shim with it. Arguments are passed on to pytest.
"""

import os
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
FLAGS = [
    *("-std=c++20", "-O1", "-g", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),
    *sanitizers.FLAGS,
    *("-DMASKFORMER_EXT_CUDA_SHIM", "-DMASKFORMER_EXT_VARIANT=cuda", "-DTORCH_TARGET_VERSION=0x020b000000000000"),
    *(f"-I{TESTS / 'include'}", f"-I{ROOT / 'csrc'}", "-isystem", str(TORCH / "include")),
]


def compile_one(source: Path) -> Path:
    """Compile a source unless its object is newer than every file that it may include."""
    compiled = FOLDER / f"{source.parent.name}-{source.name}.o"
    headers = [*ROOT.glob("csrc/*/*.h"), *ROOT.glob("csrc/*/*.cuh"), *TESTS.glob("include/*.h"), Path(__file__)]
    newest = max(path.stat().st_mtime for path in (source, *headers))
    if not compiled.exists() or compiled.stat().st_mtime < newest:
        command = ["g++", *FLAGS, "-x", "c++", "-c", str(source), "-o", str(compiled)]
        subprocess.run(command, cwd=ROOT, check=True)
    return compiled


def build() -> Path:
    """Build the library; return its path."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    sources = sorted([*ROOT.glob("csrc/*/*.cu"), *ROOT.glob("csrc/*/binding_cuda.cpp"), *TESTS.glob("*.cpp")])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    library = FOLDER / "_ops_cuda_shim.so"
    command = [
        "g++",
        "-shared",
        *sanitizers.FLAGS,
        *map(str, objects),
        f"-L{TORCH / 'lib'}",
        "-ltorch_cpu",
        "-o",
        str(library),
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    return library


def main() -> int:
    """Build, then run the tests."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *sys.argv[1:], str(TESTS)]
    return subprocess.run(
        command, cwd=ROOT, env=sanitizers.environment(MASKFORMER_EXT_CUDA_SHIM=str(build()), OMP_NUM_THREADS="1")
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
