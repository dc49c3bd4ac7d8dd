"""Build the source distribution and, from it, the wheel; check both, and try the wheel in bare environments.

    python tools/wheel.py                          # into dist/
    python tools/wheel.py --try python3.10 python3.13

The wheel is built from the unpacked source distribution, so that a missing file is noticed. Then auditwheel names the
oldest system that it runs on. Libraries of torch stay outside. The wheel serves every torch from 2.11 on, and every
Python.

`--try` makes a bare environment for each Python, installs the wheel with the torch that pip finds, and segments an
image. It prints the seconds from `pip install` to the first mask. An environment takes about 6 GB, and goes afterwards.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
OF_TORCH = ("libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so", "libc10.so", "libc10_cuda.so")
NEEDED = (
    "maskformer_ext/_ops_cpu.so",
    "maskformer_ext/py.typed",
    "maskformer_ext/config/recipes/digits.yaml",
    "maskformer_ext/data/tables/coco_panoptic.json",
)
FIRST_MASK = """
import numpy as np
from maskformer_ext import build_model, ops
from maskformer_ext.inference import segment
from maskformer_ext.ops.support.library import CPU_ERROR
assert CPU_ERROR is None, CPU_ERROR
image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
result = segment(build_model("camvid", num_classes=11), image)
assert tuple(result.class_map.shape) == (240, 320)
"""


def run(*command: str | Path, quiet: bool = True, **options) -> str:
    """Run a command and return what it prints; exit with that if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=quiet, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"wheel: failed: {' '.join(map(str, command))}\n{done.stdout or ''}{done.stderr or ''}")
    return done.stdout or ""


def build_source() -> Path:
    """Build the source distribution."""
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", DIST, ROOT)
    return newest("*.tar.gz")


def build_wheel(source: Path) -> Path:
    """Build the wheel from a source distribution, in a folder that is kept, so that a second build is quick."""
    work = ROOT / "build" / "source"
    shutil.rmtree(work, ignore_errors=True)
    with tarfile.open(source) as archive:
        archive.extractall(work, filter="data")
    (unpacked,) = work.iterdir()
    build = ROOT / "build" / f"torch{version('torch')}-wheel"
    environment = {**os.environ, "MASKFORMER_EXT_BUILD_DIR": str(build)}
    plain = work / "wheel"
    command = (sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", plain)
    run(*command, quiet=False, env=environment, cwd=unpacked)
    (wheel,) = plain.glob("*.whl")
    return wheel


def repair(wheel: Path) -> Path:
    """Name the oldest system that a wheel runs on, by the symbols that its libraries use."""
    for old in DIST.glob("*.whl"):
        old.unlink()
    excluded = [option for library in OF_TORCH for option in ("--exclude", library)]
    run(sys.executable, "-m", "auditwheel", "repair", *excluded, "--wheel-dir", DIST, wheel)
    return newest("*.whl")


def check(wheel: Path) -> None:
    """Exit if a wheel lacks a file, holds one that it should not, or belongs to one Python or system only."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    missing = [name for name in NEEDED if name not in names]
    strange = [name for name in names if not re.match(r"maskformer_ext(-[\w.]+\.(dist-info|libs))?/", name)]
    if missing or strange:
        sys.exit(f"wheel: {wheel.name} lacks {missing}, and should not hold {strange}")
    if not re.search(r"-py3-none-(\w+\.)*manylinux_\d+_\d+_\w+\.whl$", wheel.name):
        sys.exit(f"wheel: {wheel.name} is not for every Python, or not for systems with an old glibc")
    kernels = "CPU and CUDA kernels" if "maskformer_ext/_ops_cuda.so" in names else "CPU kernels"
    print(f"{wheel.relative_to(ROOT)}: {wheel.stat().st_size / 1e6:.1f} MB, {kernels}")


def attempt(python: str, wheel: Path) -> None:
    """Install a wheel in a bare environment of a Python, and segment an image there."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MASKFORMER_EXT_"))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(python, "-m", "venv", folder / "env", env=bare)
        inside = folder / "env" / "bin" / "python"
        begun = time.monotonic()
        run(inside, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"{wheel}[train]", env=bare)
        installed = time.monotonic()
        run(inside, "-c", FIRST_MASK, cwd=folder, env=bare)
        done = time.monotonic()
        run(folder / "env" / "bin" / "maskformer-ext", "--version", cwd=folder, env=bare)
        ask = "import sys, torch; print(sys.version.split()[0], torch.__version__)"
        found = run(inside, "-c", ask, env=bare).split()
    print(
        f"Python {found[0]}, torch {found[1]}: {installed - begun:.0f} s to install, "
        f"{done - installed:.0f} s to the first mask"
    )


def newest(pattern: str) -> Path:
    """Return the newest file of dist/ that matches."""
    return max(DIST.glob(pattern), key=lambda path: path.stat().st_mtime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--try", dest="pythons", nargs="*", default=[], metavar="PYTHON", help="what to install in")
    parser.add_argument("--keep", action="store_true", help="take the wheel that is in dist/")
    arguments = parser.parse_args()
    if not arguments.keep:
        source = build_source()
        print(f"{source.relative_to(ROOT)}: {source.stat().st_size / 1e6:.1f} MB", flush=True)
        check(repair(build_wheel(source)))
    for python in arguments.pythons:
        attempt(python, newest("*.whl"))


if __name__ == "__main__":
    main()
