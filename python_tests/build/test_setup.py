"""setup.py around CMake: a sentence where a step fails, progress where there is no terminal, no outdated library."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="the tests of an installed package"),
    pytest.mark.skipif(importlib.util.find_spec("setuptools") is None, reason="setuptools is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("cmake") is None, reason="cmake is not installed"),
]
HEAD = "cmake_minimum_required(VERSION 3.26)\nproject(small NONE)\n"
LIBRARY = """file(WRITE "${CMAKE_BINARY_DIR}/_ops_cpu.so" "new")
install(FILES "${CMAKE_BINARY_DIR}/_ops_cpu.so" DESTINATION .)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what builds, around a build of no consequence."""
    (tmp_path / "setup.py").write_text((ROOT / "setup.py").read_text())
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "small"\nversion = "1"\n[tool.setuptools]\npackages = []\n'
    )
    (tmp_path / "maskformer_ext").mkdir()
    return tmp_path


def build(project: Path, cmake: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    (project / "CMakeLists.txt").write_text(HEAD + cmake)
    command = [sys.executable, "setup.py", "-q", "build_ext", *(arguments or ["--inplace"])]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MASKFORMER_EXT", "CMAKE"))}
    return subprocess.run(command, cwd=project, env=kept | variables, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("cmake", "step", "reason"),
    [
        ('message(FATAL_ERROR "no such thing")', "configuring", "no such thing"),
        ('add_custom_target(fails ALL COMMAND "${CMAKE_COMMAND}" -E cat nothing.txt)', "compiling", "nothing.txt"),
        ("install(FILES nothing.txt DESTINATION .)", "collecting the libraries", "nothing.txt"),
    ],
)
def test_a_step_that_fails_is_one_sentence_after_its_own_words(project, cmake, step, reason):
    done = build(project, cmake)
    assert done.returncode == 1 and "Traceback" not in done.stderr + done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"maskformer-ext: the native build failed while {step}; the reason is in the lines above"
    assert reason in done.stdout + done.stderr


def test_a_place_that_cannot_be_written_is_one_sentence(project):
    (project / "maskformer_ext").rmdir()
    (project / "maskformer_ext").write_text("a file")
    done = build(project, LIBRARY)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("maskformer-ext: the native build cannot write its files: "), done.stderr


def test_libraries_arrive_and_that_of_an_earlier_build_goes(project):
    other = project / "maskformer_ext" / "_native.cpython-39-x86_64-linux-gnu.so"
    for path in (project / "maskformer_ext" / "_ops_cuda.so", other):
        path.write_text("old")
    done = build(project, LIBRARY)
    assert done.returncode == 0, done.stderr
    assert (project / "maskformer_ext" / "_ops_cpu.so").read_text() == "new" and other.exists()
    assert not (project / "maskformer_ext" / "_ops_cuda.so").exists()
    assert "removed an earlier build's _ops_cuda.so" in done.stdout
    assert build(project, LIBRARY).stdout == "", "nothing to do, nothing to say"


def test_what_is_asked_for_reaches_cmake_and_only_wheels_are_for_every_gpu(project):
    tell = 'message(NOTICE "cuda ${MASKFORMER_EXT_CUDA}, all ${MASKFORMER_EXT_CUDA_ALL}, x ${X}")\n'
    assert "cuda , all , x 1" in build(project, tell + LIBRARY, CMAKE_ARGS="-DX=1").stderr
    assert "cuda OFF, all , x 1" in build(project, tell + LIBRARY, MASKFORMER_EXT_CUDA="OFF").stderr
    done = build(project, tell + LIBRARY, "--build-lib", "elsewhere")
    assert "cuda , all ON, x" in done.stderr
    assert (project / "elsewhere" / "maskformer_ext" / "_ops_cpu.so").exists()


def test_without_a_terminal_it_says_how_far_it_is(project):
    (project / "setup.py").write_text(
        (project / "setup.py").read_text().replace("_SAY_EVERY = 10.0", "_SAY_EVERY = 0.0")
    )
    steps = "".join(f'add_custom_target(step{i} ALL COMMAND "${{CMAKE_COMMAND}}" -E true)\n' for i in range(3))
    done = build(project, steps + LIBRARY)
    assert done.stdout.count("-- maskformer-ext: compiled ") >= 3, done.stdout + done.stderr
    assert "[" not in done.stdout


def test_a_compiler_that_is_gone_is_forgotten(project):
    folder = project / "native"
    folder.mkdir()
    (folder / "CMakeCache.txt").write_text("CMAKE_CXX_COMPILER:FILEPATH=/no/such/compiler\nOLD:BOOL=ON\n")
    assert build(project, LIBRARY, MASKFORMER_EXT_BUILD_DIR=str(folder)).returncode == 0
    assert "OLD" not in (folder / "CMakeCache.txt").read_text()
