"""When the CUDA library is built and for which GPUs: CMake's configuration, with stand-ins for nvcc and nvidia-smi."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CMAKE = shutil.which("cmake", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))
NVCC = shutil.which("nvcc", path=f"{os.environ.get('PATH', '')}:/usr/local/cuda/bin")
pytestmark = [
    pytest.mark.skipif(CMAKE is None, reason="cmake is not installed"),
    pytest.mark.skipif(not (ROOT / "CMakeLists.txt").exists(), reason="the tests of an installed package"),
]
ALL = (50, 75, 80, 86, 89, 90, 100, 103, 120)


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


class Machine:
    """A machine with the programs that a test puts there; `configure` returns what a builder reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.asked = folder / "asked.txt"
        for name in ("__init__.py", "lib/libtorch_cuda.so"):
            (folder / "site" / "torch" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "site" / "torch" / name).touch()
        program(self.bin / "nvidia-smi", "exit 9")
        # What find_program looks for beside these is of this machine: its nvcc is hidden by leaving out its folder.
        for tool in ("c++", "cc", "g++", "gcc", "ld", "ar", "ranlib", "ninja", "make", "sh", "nm", "as", "uname"):
            found = shutil.which(tool)
            if found:
                (self.bin / tool).symlink_to(found)

    def has_nvcc(self, version: str, folder: Path | None = None, architectures=ALL, compiles: str = "exit 0") -> Path:
        """Put an nvcc there: it says its version and architectures, writes down what it is asked, and `compiles`."""
        listed = "\\n".join(f"compute_{architecture}" for architecture in architectures)
        path = (folder or self.bin) / "nvcc"
        program(
            path,
            f'echo "$@" >> {self.asked}\ncase "$*" in\n'
            f"*--version*) echo 'Cuda compilation tools, release {version}, V{version}.1';;\n"
            f"*--list-gpu-arch*) {f'printf {chr(39)}{listed}{chr(39)}' if listed else 'exit 1'};;\n"
            f"*try.cu*) {compiles};;\n*) exit 1;;\nesac",
        )
        return path

    def has_gpus(self, *capabilities: str) -> None:
        program(self.bin / "nvidia-smi", "\n".join(f"echo {capability}" for capability in capabilities))

    def configure(self, *options: str, status: int = 0, **variables: str) -> str:
        environment = {"PATH": str(self.bin), "PYTHONPATH": str(self.folder / "site"), **variables}
        command = [
            str(CMAKE),
            "-S",
            str(ROOT),
            "-B",
            str(self.folder / "build"),
            f"-DPython_EXECUTABLE={sys.executable}",
        ]
        # Whether /usr/local/cuda is there is not for a test to say.
        command += ["--log-level=NOTICE", "-DMASKFORMER_EXT_NATIVE=OFF", "-DMASKFORMER_EXT_CUDA_PLACES=", *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        return " ".join(done.stderr.split())

    @property
    def architectures(self) -> list[str]:
        """The architectures that nvcc was asked to compile for."""
        lines = [line for line in self.asked.read_text().splitlines() if "try.cu" in line]
        return [word.split("code=[compute_")[1][:-1] for word in lines[-1].split() if word.startswith("-gencode")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nvcc_without_a_gpu_builds_for_the_cpu_and_says_how_to_ask(machine):
    machine.has_nvcc("13.0")
    text = machine.configure()
    assert "CPU-only build: there is nvcc 13.0 but no GPU (MASKFORMER_EXT_CUDA=ON builds the CUDA library" in text
    assert "try.cu" not in machine.asked.read_text()


def test_no_nvcc_is_a_cpu_build(machine):
    assert "CPU-only build: no nvcc was found in CUDA_HOME, in CUDA_PATH, on PATH or" in machine.configure()


@pytest.mark.parametrize("given", ["option", "variable"])
def test_what_is_asked_for_is_an_error_where_it_cannot_be_built(machine, given):
    asked = {"MASKFORMER_EXT_CUDA": "on"} if given == "variable" else {}
    options = ["-DMASKFORMER_EXT_CUDA=ON"] if given == "option" else []
    text = machine.configure(*options, status=1, **asked)
    assert "MASKFORMER_EXT_CUDA=ON, but no nvcc was found" in text


def test_off_asks_no_nvcc(machine):
    machine.has_nvcc("13.0")
    assert "MASKFORMER_EXT_CUDA is OFF" in machine.configure(MASKFORMER_EXT_CUDA="0")
    assert not machine.asked.exists()


def test_another_value_is_named(machine):
    text = machine.configure("-DMASKFORMER_EXT_CUDA=perhaps", status=1)
    assert "MASKFORMER_EXT_CUDA must be AUTO, ON or OFF, got PERHAPS" in text


@pytest.mark.parametrize(
    ("version", "known", "expected"),
    [
        ("13.0", ALL, ["80", "90", "100", "120"]),
        ("12.8", (), ["80", "90", "100", "120"]),
        ("12.4", (50, 75, 80, 86, 89, 90), ["80", "90"]),
        ("12.0", (), ["80", "90"]),
        ("14.2", (90, 100, 120, 130), ["90", "100", "120"]),
    ],
)
def test_all_architectures_are_those_that_nvcc_knows(machine, version, known, expected):
    machine.has_nvcc(version, architectures=known)
    machine.configure("-DMASKFORMER_EXT_CUDA_ALL=ON")
    assert machine.architectures == expected
    machine.has_gpus("8.6")
    machine.configure("-DMASKFORMER_EXT_CUDA_ALL=ON", "--fresh")
    assert machine.architectures == expected, "a wheel is for other machines"


@pytest.mark.parametrize(
    ("version", "gpus", "expected"),
    [
        ("13.0", ["9.0"], ["90"]),
        ("13.0", ["8.6", "8.6", "9.0"], ["86", "90"]),
        ("12.4", ["12.0"], ["90"]),  # as PTX, which the driver compiles
        ("13.0", ["7.5", "8.0"], ["80"]),
    ],
)
def test_a_gpu_is_built_for(machine, version, gpus, expected):
    machine.has_nvcc(version)
    machine.has_gpus(*gpus)
    machine.configure()
    assert machine.architectures == expected


def test_a_gpu_that_is_too_old_is_named(machine):
    machine.has_nvcc("12.8")
    machine.has_gpus("7.5")
    assert "CPU-only build: the kernels need sm_80 or newer, and the GPU here is sm_75" in machine.configure()


def test_the_users_architectures_are_taken_as_they_are(machine):
    machine.has_nvcc("13.0")
    machine.configure("-DMASKFORMER_EXT_CUDA_ALL=ON", "-DCMAKE_CUDA_ARCHITECTURES=90")
    assert machine.architectures == ["90"]


@pytest.mark.parametrize("version", ["11.4", "11.8"])
def test_an_old_nvcc_is_a_cpu_build(machine, version):
    machine.has_nvcc(version, architectures=())
    machine.has_gpus("8.0")
    text = machine.configure()
    assert f"CPU-only build: nvcc {version} " in text and "older than 12.0, the first that knows C++20" in text


BROKEN = (
    "echo 'host_config.h: error -- unsupported GNU version! gcc versions later than 12 are not supported!' >&2; exit 1"
)


def test_an_nvcc_that_refuses_the_host_compiler_is_a_cpu_build(machine):
    machine.has_nvcc("12.4", compiles=BROKEN)
    machine.has_gpus("8.0")
    text = machine.configure()
    assert "CPU-only build: nvcc 12.4" in text and "unsupported GNU version! gcc versions later than 12" in text
    assert "MASKFORMER_EXT_CUDA=ON, but nvcc 12.4" in machine.configure("-DMASKFORMER_EXT_CUDA=ON", status=1)


def test_an_nvcc_that_does_not_run_is_a_cpu_build(machine):
    program(machine.bin / "nvcc", "exit 127")
    machine.has_gpus("8.0")
    assert "does not say its version" in machine.configure()


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH"])
def test_nvcc_is_found_where_the_variables_say(machine, variable):
    machine.has_nvcc("12.6", folder=machine.folder / "toolkit" / "bin")
    assert "there is nvcc 12.6 but no GPU" in machine.configure(**{variable: str(machine.folder / "toolkit")})


def test_nvcc_is_found_in_the_usual_place(machine):
    machine.has_nvcc("12.6", folder=machine.folder / "usual")
    assert "there is nvcc 12.6 but" in machine.configure(f"-DMASKFORMER_EXT_CUDA_PLACES={machine.folder / 'usual'}")


@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
def test_a_smaller_build_of_an_older_nvcc(machine):
    """The real nvcc, which says that it is older and refuses what it could not know."""
    path = machine.has_nvcc("12.4")
    script = path.read_text().replace("*) exit 1;;", f'*compute_1[0-9][0-9]*) exit 1;;\n*) exec {NVCC} "$@";;')
    path.write_text(script.replace("*try.cu*) exit 0;;\n", ""))
    assert "for 80-real;90" in machine.configure("-DMASKFORMER_EXT_CUDA=ON").replace("; ", ";")
