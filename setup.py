"""Run CMake, which describes the whole native build, where setuptools would compile extensions."""

import fcntl
import filecmp
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
PACKAGE = "maskformer_ext"


def find_tool(name: str) -> str | None:
    """Find a program, first beside this Python (a virtual environment need not be activated), then on PATH."""
    scripts = sysconfig.get_path("scripts")
    return shutil.which(name, path=os.pathsep.join([scripts, os.environ.get("PATH", "")]))


def run(command: list[str], **options) -> None:
    """Run one step of the build; its own messages say why it failed."""
    if subprocess.run(command, **options).returncode != 0:
        sys.exit(f"maskformer-ext: the native build failed in: {' '.join(command)}")


def replace_file(source: Path, target: Path) -> None:
    """Copy a file under its final name only when complete, since a running process may have the old one mapped."""
    if target.exists() and filecmp.cmp(source, target, shallow=False):
        return
    partial = target.with_name(target.name + ".partial")
    shutil.copyfile(source, partial)
    os.replace(partial, target)


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
        # One folder per Python and torch, so that a second build compiles only what changed.
        tag = f"{sys.implementation.cache_tag}-torch{version('torch')}"
        build = Path(os.environ.get("MASKFORMER_EXT_BUILD_DIR", ROOT / "build" / tag))
        destination = ROOT / PACKAGE if self.inplace or self.editable_mode else Path(self.build_lib) / PACKAGE
        configure = [cmake, "-S", str(ROOT), "-B", str(build), f"-DPython_EXECUTABLE={sys.executable}"]
        ninja = find_tool("ninja")
        if ninja is not None and not (build / "CMakeCache.txt").exists():
            configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        configure += os.environ.get("CMAKE_ARGS", "").split()
        jobs = os.environ.get("MAX_JOBS", str(len(os.sched_getaffinity(0))))
        build.mkdir(parents=True, exist_ok=True)
        with open(build / "lock", "w") as lock:  # two builds in one folder would overwrite each other's objects
            fcntl.flock(lock, fcntl.LOCK_EX)
            subprocess.run([*configure, "--log-level=NOTICE"], check=True)
            subprocess.run([cmake, "--build", str(build), "--parallel", jobs], check=True)
            subprocess.run(
                [cmake, "--install", str(build), "--prefix", str(build / "stage")],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            destination.mkdir(parents=True, exist_ok=True)
            for library in (build / "stage").glob("*.so"):
                replace_file(library, destination / library.name)

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


# The extension without sources tells setuptools that the wheel belongs to one platform and Python.
setup(ext_modules=[Extension(f"{PACKAGE}._native", sources=[])], cmdclass={"build_ext": CMakeBuild})
