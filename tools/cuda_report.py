"""Print what ptxas says of each CUDA kernel: registers, shared memory, stack and spills, for each architecture.

Needs nvcc, no GPU. `--check` fails where a kernel spills; file names limit the report to these sources.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURES = (80, 90, 100, 120)
_ENTRY = re.compile(r"Compiling entry function '(\S+)' for 'sm_(\d+)\w*'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass
class Kernel:
    """One kernel for one architecture; sizes in bytes."""

    name: str
    architecture: int
    registers: int = 0
    shared: int = 0
    stack: int = 0
    spills: int = 0


def compile_report(source: Path) -> list[Kernel]:
    """Compile a source for all architectures and read what ptxas reports."""
    command = [
        "nvcc",
        "-std=c++20",
        "-O3",
        "--expt-relaxed-constexpr",
        "--threads",
        "0",
        "-Xptxas=-v",
        f"-I{ROOT / 'csrc'}",
    ]
    command += [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES]
    with tempfile.TemporaryDirectory() as folder:
        command += ["-c", str(source), "-o", f"{folder}/kernels.o"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"cuda_report: {source.relative_to(ROOT)} does not compile:\n{done.stderr}")
    return parse(done.stderr + done.stdout)


def parse(text: str) -> list[Kernel]:
    """Read ptxas's lines; names are demangled where c++filt is there."""
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
    """`void maskformer_ext::cuda::(anonymous namespace)::f<float>(Params)` -> `f<float>`."""
    name = name.replace("maskformer_ext::", "").replace("cuda::", "").replace("(anonymous namespace)::", "")
    return name.removeprefix("void ").rsplit("(", 1)[0]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("sources", nargs="*", type=Path)
    options = parser.parse_args()
    if shutil.which("nvcc") is None:
        print("cuda_report: nvcc is not on PATH", file=sys.stderr)
        return 1
    sources = [path.resolve() for path in options.sources] or sorted(ROOT.glob("csrc/*/*.cu"))
    spilling = []
    for source in sources:
        print(f"== {source.relative_to(ROOT)}")
        kernels = compile_report(source)
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
