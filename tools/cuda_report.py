"""Print what ptxas reports on each CUDA kernel, per architecture: registers, shared memory, stack and spills.

It needs nvcc, but no GPU. File names limit the report to these sources. `--check` fails where a kernel spills.

`--built` compiles nothing that is up to date in build/. It reads what ptxas reported when the CUDA library was built,
for the architectures of that build. Other sources are compiled for one architecture.

`--loops FILE...` lists the innermost loops of each kernel instead, with their instructions by pipe. A file is a source,
an object or a cubin. `--mark MUFU.EX2` counts per unit of work: such instructions mark one. `--avoid MUFU.LG2` leaves
out the ways through a loop that meet such an instruction. `--kernel` limits the list by a part of the name.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from sass.hot import describe  # noqa: E402
from sass.listing import parse as parse_listing  # noqa: E402

ARCHITECTURES = (80, 90, 100, 120)
ONE_ARCHITECTURE = (90,)
_ENTRY = re.compile(r"Compiling entry function '(\S+)' for 'sm_(\d+)\w*'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass
class Kernel:
    """One kernel for one architecture. Sizes are in bytes."""

    name: str
    architecture: int
    registers: int = 0
    shared: int = 0
    stack: int = 0
    spills: int = 0


def find_nvcc() -> str | None:
    """Find nvcc as the build does: in CUDA_HOME, in CUDA_PATH, on PATH or in the usual place."""
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    folders = [*(f"{home}/bin" for home in homes), os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    return shutil.which("nvcc", path=os.pathsep.join(folders))


def built_report(source: Path, build: Path = ROOT / "build") -> list[Kernel]:
    """Read what ptxas reported when the library was built (cmake/keep_ptxas.sh); return [] if that is out of date."""
    read = [source, *ROOT.glob("csrc/*/*.h"), *ROOT.glob("csrc/*/*.cuh")]
    newest = max(path.stat().st_mtime for path in read)
    place = f"*/CMakeFiles/_ops_cuda.dir/{source.relative_to(ROOT)}.o"
    objects = [path for path in build.glob(place) if path.stat().st_mtime >= newest]
    for compiled in sorted(objects, key=lambda path: path.stat().st_mtime, reverse=True):
        log = compiled.with_name(compiled.name + ".ptxas")
        # A log that is newer than its object is of a compilation that failed.
        if log.exists() and newest <= log.stat().st_mtime <= compiled.stat().st_mtime:
            return parse(log.read_text())
    return []


def compile_report(nvcc: str, source: Path, architectures: tuple[int, ...]) -> list[Kernel]:
    """Compile a source for these architectures, and read what ptxas reports."""
    command = [nvcc, "-std=c++20", "-O3", "--expt-relaxed-constexpr", "--threads", "0", "-Xptxas=-v"]
    command += [f"-I{ROOT / 'csrc'}", *(f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*command, "-c", str(source), "-o", f"{folder}/o"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"cuda_report: {source.relative_to(ROOT)} does not compile:\n{done.stderr}")
    return parse(done.stderr + done.stdout)


def parse(text: str) -> list[Kernel]:
    """Read ptxas's lines. Names are demangled where c++filt is installed."""
    kernels: list[Kernel] = []
    for line in text.splitlines():
        if found := _ENTRY.search(line):
            kernels.append(Kernel(found[1], int(found[2])))
        elif kernels and (found := _STACK.search(line)):
            kernels[-1].stack, kernels[-1].spills = int(found[1]), int(found[2]) + int(found[3])
        elif kernels and (found := _USED.search(line)):
            kernels[-1].registers = int(found[1])
            if shared := _SHARED.search(line):
                kernels[-1].shared = int(shared[1])
    if kernels and shutil.which("c++filt"):
        names = "\n".join(kernel.name for kernel in kernels)
        plain = subprocess.run(["c++filt"], input=names, capture_output=True, text=True).stdout.splitlines()
        for kernel, name in zip(kernels, plain, strict=True):
            kernel.name = _short(name)
    return kernels


def _short(name: str) -> str:
    """Shorten `void maskformer_ext::cuda::(anonymous namespace)::f<float>(Params)` to `f<float>`."""
    name = name.replace("maskformer_ext::", "").replace("cuda::", "").replace("(anonymous namespace)::", "")
    return name.removeprefix("void ").rsplit("(", 1)[0]


def print_loops(path: Path, kernel: str, mark: str, avoid: str) -> None:
    """Print the innermost loops of the kernels in a source, an object or a cubin."""
    tool = shutil.which("cuobjdump", path=tool_folders())
    if tool is None:
        raise SystemExit("cuda_report: no cuobjdump in CUDA_HOME, on PATH or in triton: `pip install triton` has it")
    with tempfile.TemporaryDirectory() as folder:
        if path.suffix == ".cu":
            cubin = f"{folder}/kernels.cubin"
            command = [find_nvcc() or "nvcc", "-std=c++20", "-O3", "-arch=sm_90", "--expt-relaxed-constexpr"]
            subprocess.run([*command, f"-I{ROOT / 'csrc'}", "-cubin", "-o", cubin, str(path)], check=True)
            path = Path(cubin)
        listing = subprocess.run([tool, "-sass", str(path)], capture_output=True, text=True, check=True).stdout
    for function in parse_listing(listing):
        plain = subprocess.run(["c++filt", function.name], capture_output=True, text=True).stdout.strip()
        if kernel in plain:
            print(f"{_short(plain)}, sm_{function.architecture}, {len(function.instructions)} instructions")
            print("\n".join(describe(function, mark, avoid)))


def tool_folders() -> str:
    """Return where the CUDA toolkit's programs may be, triton's copies last."""
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    folders = [*(f"{home}/bin" for home in homes), os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    triton = importlib.util.find_spec("triton")
    if triton and triton.submodule_search_locations:
        folders += [f"{place}/backends/nvidia/bin" for place in triton.submodule_search_locations]
    return os.pathsep.join(folders)


def main() -> int:
    """Print the tables; return 1 without nvcc, or where `--check` finds a spill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--built", action="store_true")
    parser.add_argument("--loops", action="store_true")
    parser.add_argument("--mark", default="")
    parser.add_argument("--avoid", default="")
    parser.add_argument("--kernel", default="")
    parser.add_argument("sources", nargs="*", type=Path)
    options = parser.parse_args()
    if options.loops:
        for path in options.sources:
            print_loops(path, options.kernel, options.mark, options.avoid)
        return 0
    nvcc = find_nvcc()
    if nvcc is None:
        print("cuda_report: no nvcc was found in CUDA_HOME, in CUDA_PATH or on PATH", file=sys.stderr)
        return 1
    sources = [path.resolve() for path in options.sources] or sorted(ROOT.glob("csrc/*/*.cu"))
    spilling = []
    for source in sources:
        print(f"== {source.relative_to(ROOT)}")
        kernels = built_report(source) if options.built else []
        if not kernels:
            kernels = compile_report(nvcc, source, ONE_ARCHITECTURE if options.built else ARCHITECTURES)
        width = max(len(kernel.name) for kernel in kernels)
        print(f"  {'kernel':{width}}  sm   registers  shared  stack  spills")
        for kernel in sorted(kernels, key=lambda one: (one.name, one.architecture)):
            print(
                f"  {kernel.name:{width}}  {kernel.architecture:<4} {kernel.registers:9}  {kernel.shared:6}  "
                f"{kernel.stack:5}  {kernel.spills:6}"
            )
            if kernel.spills:
                spilling.append(kernel)
    if options.check and spilling:
        names = ", ".join(f"{kernel.name} (sm_{kernel.architecture}: {kernel.spills} bytes)" for kernel in spilling)
        print(f"cuda_report: these kernels spill: {names}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
