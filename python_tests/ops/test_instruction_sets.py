"""Every test of the ops again, on each instruction set below the one in use that this processor has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maskformer_ext.ops.support.library import REFERENCE, build_info

LEVELS = ("baseline", "avx2", "avx512")
NO_KERNELS = ("test_library.py", "test_catalog.py", "test_options.py", "test_meta.py")
IN_USE = build_info().get("cpu", "baseline")  # without a library there are no kernels


@pytest.mark.slow
@pytest.mark.timeout(0)  # each of the tests that it runs has a limit of its own
@pytest.mark.skipif(REFERENCE or "MASKFORMER_EXT_CPU" in os.environ, reason="another choice was made")
@pytest.mark.parametrize("level", LEVELS[: LEVELS.index(IN_USE)])
def test_all_ops_pass_on(level):
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(folder)]
    # What is loaded, listed, compiled, registered or refused does not depend on the instruction set.
    command += [f"--ignore={folder / name}" for name in NO_KERNELS]
    command += ["-k", "not compile and not opcheck and not refused and not named and not registered"]
    environment = {**os.environ, "MASKFORMER_EXT_CPU": level}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
