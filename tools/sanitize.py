"""Run the tests of the ops on kernels built with AddressSanitizer and UndefinedBehaviorSanitizer.

It builds into build/sanitize, beside the usual libraries, and runs a copy of the tests against that. Arguments are
passed on to pytest.

The run ends at a read or write out of bounds, a use of freed memory or undefined behaviour. The report names file and
line.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import sanitizer_flags

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "sanitize"
CMAKE_ARGS = "-DMASKFORMER_EXT_SANITIZE=ON -DMASKFORMER_EXT_WERROR=OFF -DMASKFORMER_EXT_CUDA=OFF"


def build() -> Path:
    """Build the package with sanitizers, and return the folder to import it from."""
    site = FOLDER / "site"
    environment = {**os.environ, "MASKFORMER_EXT_BUILD_DIR": str(FOLDER / "native"), "CMAKE_ARGS": CMAKE_ARGS}
    command = [
        sys.executable,
        "setup.py",
        "-q",
        "build",
        "--build-base",
        str(FOLDER / "base"),
        "--build-lib",
        str(site),
    ]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return site


def main() -> int:
    """Build, copy the tests, run them."""
    site = build()
    tests = FOLDER / "tests"
    shutil.rmtree(tests, ignore_errors=True)
    shutil.copytree(ROOT / "python_tests", tests)
    arguments = sys.argv[1:] or ["-m", "not slow", "-k", "not compile and not memory and not exact"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, "ops"]
    return subprocess.run(
        command, cwd=tests, env=sanitizer_flags.environment(PYTHONPATH=str(site), MASKFORMER_EXT_SANITIZED="1")
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
