"""Reads compiled kernels: their machine code, registers, shared memory and launch bounds."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sass.listing import Function, parse

ROOT = Path(__file__).resolve().parents[2]
NO_CUOBJDUMP = (
    "no cuobjdump was found in CUDA_HOME, in CUDA_PATH or on PATH: install the CUDA toolkit, or `pip install triton`, "
    "which brings it along"
)
_CODE = re.compile(r"^arch = sm_(\d+)|^\s*code for sm_(\d+)")
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)")
_BOUNDS = re.compile(r"^\.maxntid (\d+)(?:, (\d+), (\d+))?|^\.minnctapersm (\d+)")


@dataclass
class Kernel:
    """A kernel that was compiled for one architecture. Sizes are in bytes, of a block."""

    name: str
    function: Function
    registers: int = 0
    shared: int = 0
    threads: int = 0  # of __launch_bounds__; 0 where they are not known
    promised: int = 1  # blocks per processor that __launch_bounds__ names

    @property
    def architecture(self) -> int:
        """Such as 90."""
        return self.function.architecture


def search_path() -> str:
    """Return the folders of the toolkit's programs: CUDA_HOME, CUDA_PATH, PATH, the usual place, and triton's."""
    homes = [os.environ[home] for home in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(home)]
    folders = [*(f"{home}/bin" for home in homes), os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    triton = importlib.util.find_spec("triton")
    for place in (triton and triton.submodule_search_locations) or ():
        folders.append(f"{place}/backends/nvidia/bin")
    return os.pathsep.join(folders)


def find_program(name: str) -> str | None:
    """Find a program of the toolkit."""
    return shutil.which(name, path=search_path())


def compile_kernels(nvcc: str, source: Path, architectures: Sequence[int], to: Path) -> str:
    """Compile a source's kernels into a fat binary, with the PTX that tells launch bounds. Return what ptxas says.

    Raises:
        SystemExit: if the source does not compile.
    """
    command = [nvcc, "-std=c++20", "-O3", "--expt-relaxed-constexpr", "--threads", "0", "-Xptxas=-v", "-fatbin"]
    command += [f"-I{ROOT / 'csrc'}", *(f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures)]
    command.append(f"-gencode=arch=compute_{architectures[-1]},code=compute_{architectures[-1]}")
    done = subprocess.run([*command, "-o", str(to), str(source)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"cuda_report: {source.name} does not compile:\n{done.stderr}")
    return done.stderr + done.stdout


def read_kernels(cuobjdump: str, binary: Path) -> list[Kernel]:
    """Read the kernels of an object, a fat binary or a cubin, for every architecture in it.

    Raises:
        SystemExit: if cuobjdump fails, as it does where it finds no nvdisasm.
    """
    environment = {**os.environ, "PATH": search_path()}
    listing, usage, ptx = (
        subprocess.run([cuobjdump, flag, str(binary)], capture_output=True, text=True, env=environment)
        for flag in ("-sass", "-res-usage", "-ptx")
    )
    if listing.returncode:
        raise SystemExit(f"cuda_report: {(listing.stderr or listing.stdout).strip()}")
    functions = parse(listing.stdout)
    kernels = [Kernel(name, one) for name, one in zip(demangle([f.name for f in functions]), functions, strict=True)]
    by_name = {(kernel.function.name, kernel.architecture): kernel for kernel in kernels}
    read_usage(by_name, usage.stdout)
    read_bounds(by_name, ptx.stdout)
    return kernels


def read_usage(kernels: dict[tuple[str, int], Kernel], text: str) -> None:
    """Add registers and shared memory, as `cuobjdump -res-usage` prints them."""
    only = {architecture for _, architecture in kernels}
    architecture, name = (only.pop() if len(only) == 1 else 0), ""
    for line in text.splitlines():
        if found := _CODE.match(line):
            architecture = int(found[1] or found[2])
        elif line.strip().startswith("Function "):
            name = line.strip().removeprefix("Function ").rstrip(":")
        elif (found := _USAGE.search(line)) and (name, architecture) in kernels:
            kernel = kernels[name, architecture]
            # From sm_90 on, the size holds the kilobyte that the system reserves for each block.
            reserved = 1024 if architecture >= 90 and int(found[3]) >= 1024 else 0
            kernel.registers, kernel.shared = int(found[1]), int(found[3]) - reserved


def read_bounds(kernels: dict[tuple[str, int], Kernel], text: str) -> None:
    """Add what `__launch_bounds__` says, from PTX. It is the same for every architecture."""
    name = ""
    for line in text.splitlines():
        if ".entry " in line:
            name = line.partition(".entry ")[2].partition("(")[0].strip()
        elif found := _BOUNDS.match(line):
            for kernel in (one for (known, _), one in kernels.items() if known == name):
                if found[4]:
                    kernel.promised = int(found[4])
                else:
                    kernel.threads = int(found[1]) * int(found[2] or 1) * int(found[3] or 1)


def demangle(names: Sequence[str]) -> list[str]:
    """Return short plain names; the mangled ones where c++filt is not installed."""
    if not names or not shutil.which("c++filt"):
        return list(names)
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True)
    return [short_name(name) for name in done.stdout.splitlines()]


def short_name(name: str) -> str:
    """Shorten `void maskformer_ext::cuda::(anonymous namespace)::f<float>(Params)` to `f<float>`."""
    name = name.replace("(anonymous namespace)::", "").replace("maskformer_ext::", "").replace("cuda::", "")
    return name.removeprefix("void ").rsplit("(", 1)[0]


def built_object(source: Path, build: Path | None = None) -> Path | None:
    """Return the newest object that was built from a source and headers as they are now, or None.

    What ptxas said of it lies beside it (cmake/keep_ptxas.sh), else it does not count.
    """
    read = [source, *ROOT.glob("csrc/*/*.h"), *ROOT.glob("csrc/*/*.cuh")]
    newest = max(path.stat().st_mtime for path in read)
    place = f"*/CMakeFiles/_ops_cuda.dir/{source.relative_to(ROOT)}.o"
    objects = [path for path in (build or ROOT / "build").glob(place) if path.stat().st_mtime >= newest]
    for compiled in sorted(objects, key=lambda path: path.stat().st_mtime, reverse=True):
        log = ptxas_log(compiled)
        # A log that is newer than its object is of a compilation that failed.
        if log.exists() and newest <= log.stat().st_mtime <= compiled.stat().st_mtime:
            return compiled
    return None


def ptxas_log(compiled: Path) -> Path:
    """Return where the build keeps what ptxas said of an object."""
    return compiled.with_name(compiled.name + ".ptxas")
