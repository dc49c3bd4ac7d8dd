"""Run CMake, which describes the whole native build, where setuptools would compile extensions."""

import fcntl
import filecmp
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from importlib.metadata import version
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
PACKAGE = "maskformer_ext"
CUDA_LIBRARY = "_ops_cuda.so"
_STATUS = re.compile(r"\[(\d+)/(\d+)\] |\[ *(\d+)%\] ")  # how ninja and make begin the line of a step
_SAY_EVERY = 10.0  # seconds


def find_tool(name: str) -> str | None:
    """Find a program, first beside this Python (a virtual environment need not be activated), then on PATH."""
    scripts = sysconfig.get_path("scripts")
    return shutil.which(name, path=os.pathsep.join([scripts, os.environ.get("PATH", "")]))


def run(step: str, command: list[str], **options) -> None:
    """Run one step of the build; what it writes to stderr says why it failed, and one sentence says what that means."""
    if subprocess.run(command, stdout=subprocess.DEVNULL, **options).returncode != 0:
        fail(step)


def fail(step: str) -> None:
    """End with one sentence; whatever went wrong has said so itself, above."""
    sys.exit(f"maskformer-ext: the native build failed while {step}; the reason is in the lines above")


def compile_all(command: list[str]) -> None:
    """Compile: a status line that ninja rewrites in a terminal, elsewhere one line every few seconds."""
    step = "compiling"
    if sys.stdout.isatty():
        if subprocess.run(command).returncode != 0:
            fail(step)
        return
    begin = said = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace")
    assert process.stdout is not None
    for line in process.stdout:
        status = _STATUS.match(line)
        if status is None:
            if not line.startswith(("ninja: no work to do", "ninja: Entering")):
                print(line, end="", flush=True)
        elif time.monotonic() - said >= _SAY_EVERY:
            said = time.monotonic()
            done = f"{status[1]} of {status[2]} files" if status[1] else f"{status[3]} %"
            print(f"-- maskformer-ext: compiled {done} in {said - begin:.0f} s", flush=True)
    if process.wait() != 0:
        fail(step)


def replace_file(source: Path, target: Path) -> None:
    """Copy a file under its final name only when complete, since a running process may have the old one mapped."""
    if target.exists() and filecmp.cmp(source, target, shallow=False):
        return
    partial = target.with_name(target.name + ".partial")
    shutil.copyfile(source, partial)
    os.replace(partial, target)


def is_outdated(build: Path) -> bool:
    """Return whether a compiler that CMake remembers is gone, so that it has to forget what it knows."""
    cache = (build / "CMakeCache.txt").read_text(errors="replace") if (build / "CMakeCache.txt").exists() else ""
    compilers = re.findall(r"^CMAKE_(?:CXX|CUDA)_COMPILER:\w+=(/.*)$", cache, re.MULTILINE)
    return not all(os.path.exists(compiler) for compiler in compilers)


class CMakeBuild(build_ext):
    """Configure, build and install the native libraries into the package."""

    def run(self) -> None:
        cmake = find_tool("cmake")
        if cmake is None:
            sys.exit("maskformer-ext: cmake >= 3.26 is needed to build the native libraries: pip install cmake ninja")
        if importlib.util.find_spec("torch") is None:
            sys.exit(
                "maskformer-ext: torch must be importable while building: pip install torch, then --no-build-isolation"
            )
        if "CXX" not in os.environ and not any(map(find_tool, ("c++", "g++", "clang++"))):
            sys.exit("maskformer-ext: no C++ compiler was found: install GCC 11 or newer (Debian: apt install g++)")
        here = self.inplace or self.editable_mode
        # One folder per torch, so that a second build compiles only what changed. What is built for other
        # machines has one of its own, since its CUDA library holds all architectures.
        tag = f"torch{version('torch')}{'' if here else '-wheel'}"
        build = Path(os.environ.get("MASKFORMER_EXT_BUILD_DIR", ROOT / "build" / tag))
        destination = ROOT / PACKAGE if here else Path(self.build_lib) / PACKAGE
        try:
            self.build_libraries(cmake, build, destination, [] if here else ["-DMASKFORMER_EXT_CUDA_ALL=ON"])
        except OSError as error:  # a full or read-only disk
            sys.exit(f"maskformer-ext: the native build cannot write its files: {error}")

    def build_libraries(self, cmake: str, build: Path, destination: Path, options: list[str]) -> None:
        """Configure with these options, compile, and put the libraries into a folder."""
        configure = [cmake, "-S", str(ROOT), "-B", str(build), f"-DPython_EXECUTABLE={sys.executable}", *options]
        if is_outdated(build):
            configure.append("--fresh")
        ninja = find_tool("ninja")
        if ninja is not None and not (build / "CMakeCache.txt").exists():
            configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        if os.environ.get("MASKFORMER_EXT_CUDA"):
            configure.append(f"-DMASKFORMER_EXT_CUDA={os.environ['MASKFORMER_EXT_CUDA']}")
        configure += os.environ.get("CMAKE_ARGS", "").split()
        jobs = os.environ.get("MAX_JOBS", str(len(os.sched_getaffinity(0))))
        stage = build / "stage"
        build.mkdir(parents=True, exist_ok=True)
        with open(build / "lock", "w") as lock:  # two builds in one folder would overwrite each other's objects
            fcntl.flock(lock, fcntl.LOCK_EX)
            run("configuring", [*configure, "--log-level=NOTICE"])
            compile_all([cmake, "--build", str(build), "--parallel", jobs])
            shutil.rmtree(stage, ignore_errors=True)
            run("collecting the libraries", [cmake, "--install", str(build), "--prefix", str(stage)])
            destination.mkdir(parents=True, exist_ok=True)
            for library in stage.glob("*.so"):
                replace_file(library, destination / library.name)
            if not (stage / CUDA_LIBRARY).exists() and (destination / CUDA_LIBRARY).exists():
                (destination / CUDA_LIBRARY).unlink()  # it knows the sources of an earlier build
                print(f"-- maskformer-ext: removed an earlier build's {CUDA_LIBRARY}", flush=True)

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class PlatformWheel(bdist_wheel):
    """One wheel serves every Python: the libraries know no version of it, only the platform."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


# The extension without sources tells setuptools that the wheel belongs to one platform.
setup(
    ext_modules=[Extension(f"{PACKAGE}._ops_cpu", sources=[])],
    cmdclass={"build_ext": CMakeBuild, "bdist_wheel": PlatformWheel},
)
