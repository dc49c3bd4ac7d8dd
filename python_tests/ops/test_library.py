"""What users see where the native library is missing, broken, or not to be used."""

import ctypes
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import maskformer_ext
from maskformer_ext.ops import catalog
from maskformer_ext.ops.support import library

PACKAGE = Path(maskformer_ext.__file__).parent
ASSIGN = "import torch; from maskformer_ext import ops; print(ops.linear_sum_assignment(torch.eye(2), torch.tensor(2)).tolist())"  # fmt: skip  # noqa: E501

native_only = pytest.mark.skipif(
    library.REFERENCE or library.CPU_ERROR is not None, reason="the native library is not in use"
)


def run(code: str, path: Path = PACKAGE.parent, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MASKFORMER_EXT_")}
    environment |= {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run([sys.executable, "-c", code], env=environment, cwd=path, capture_output=True, text=True)


@pytest.fixture
def package_copy(tmp_path) -> Path:
    """The package's Python files in a folder of their own, without libraries."""
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "maskformer_ext", ignore=ignore)
    return tmp_path


def test_missing_library_is_one_sentence_with_the_command(package_copy):
    result = run(ASSIGN, package_copy)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert "MissingLibrary: maskformer_ext: the native library is not available, since " in last
    assert issubclass(library.MissingLibrary, RuntimeError)
    assert "_ops_cpu.so does not exist: build it with `make build" in last
    assert "MASKFORMER_EXT_REFERENCE=1" in last


def test_broken_library_is_one_sentence_with_the_reason(package_copy):
    (package_copy / "maskformer_ext" / "_ops_cpu.so").write_bytes(b"no library")
    last = run(ASSIGN, package_copy).stderr.strip().splitlines()[-1]
    assert "_ops_cpu.so does not load (" in last and "build it with `make build" in last


@native_only
def test_outdated_library_is_named():
    code = (
        "from maskformer_ext.ops.support import library; import torch\n"
        "library.register('an_op_of_tomorrow', fake=lambda x: x)\n"
        "library.native('an_op_of_tomorrow', torch.zeros(1))"
    )
    last = run(code).stderr.strip().splitlines()[-1]
    assert "was built before an_op_of_tomorrow was added: build it with `make build" in last


@native_only
def test_broken_cuda_library_leaves_the_cpu_ops_alone(package_copy):
    shutil.copy(PACKAGE / "_ops_cpu.so", package_copy / "maskformer_ext")
    (package_copy / "maskformer_ext" / "_ops_cuda.so").write_bytes(b"no library")
    result = run(ASSIGN, package_copy)
    assert result.stdout.strip() == "[1, 0]", result.stderr


def test_references_run_without_a_library(package_copy):
    result = run(ASSIGN, package_copy, MASKFORMER_EXT_REFERENCE="1")
    assert result.stdout.strip() == "[1, 0]", result.stderr


@native_only
@pytest.mark.parametrize("cpu", ["baseline", "avx2", "avx512"])
def test_an_instruction_set_can_be_asked_for(cpu):
    code = ASSIGN + "; from maskformer_ext.ops.support.library import build_info; print(build_info()['cpu'])"
    result = run(code, MASKFORMER_EXT_CPU=cpu)
    answer, used = result.stdout.split("\n")[:2]
    assert answer == "[1, 0]"
    levels = ["baseline", "avx2", "avx512"]
    assert used in levels[: levels.index(cpu) + 1], "what the processor lacks is never used"


def test_importing_the_ops_needs_torch_and_numpy_only():
    heavy = "torchvision timm accelerate omegaconf rich PIL matplotlib sklearn skimage scipy transformers"
    code = f"import sys, maskformer_ext.ops; print([m for m in {heavy.split()} if m in sys.modules])"
    result = run(code)
    assert result.stdout.strip() == "[]", result.stderr


@native_only
def test_float64_and_unknown_devices_go_to_the_reference():
    assert library.native("linear_sum_assignment", torch.zeros(1), None)
    assert not library.native("linear_sum_assignment", torch.zeros(1), torch.zeros(1, dtype=torch.float64))
    assert not library.native("linear_sum_assignment", torch.zeros(1, device="meta"))
    assert not library.native("no_such_op", torch.zeros(1))


@native_only
@pytest.mark.cuda_library
@pytest.mark.skipif(not (PACKAGE / "_ops_cuda.so").exists(), reason="a CPU-only build")
def test_cuda_library_has_a_kernel_for_every_op_even_without_a_gpu():
    assert library.CUDA_ERROR is None
    assert library._KERNELS["cuda"] == {name for op in catalog.OPS if op.cuda for name in op.native}


NO_CODE = "no kernel image is available for execution on the device"
TOO_OLD = "CUDA driver version is insufficient for CUDA runtime version"


def on_gpu(index: int | None = 0) -> Any:
    """What `native` looks at of a tensor on a GPU."""
    return SimpleNamespace(dtype=torch.float32, device=SimpleNamespace(type="cuda", index=index))


@pytest.fixture
def gpus(monkeypatch) -> dict[int, str | None]:
    """GPUs by number: what the CUDA library says that keeps it from running there; every op has a CUDA kernel."""
    problems: dict[int, str | None] = {0: None}
    monkeypatch.setattr(library, "_SERVED", {})
    monkeypatch.setattr(library, "_cuda_problem", lambda index: problems[index])
    monkeypatch.setitem(library._KERNELS, "cuda", library._KERNELS["cpu"])
    return problems


@native_only
@pytest.mark.parametrize("problem", [NO_CODE, TOO_OLD])
def test_a_gpu_that_the_library_cannot_run_on_gets_the_references_and_one_warning(problem, gpus):
    gpus[1] = problem
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert library.native("dice_loss", on_gpu(0)) and library.native("dice_loss", on_gpu(None))
    with pytest.warns(UserWarning, match=f"maskformer_ext: GPU 1 uses the PyTorch references: {problem}") as caught:
        assert not library.native("dice_loss", on_gpu(1))
        assert not library.native("mask_loss", on_gpu(1))
        assert library.native("mask_loss", on_gpu(0)), "another GPU is another matter"
    assert len(caught) == 1


@native_only
def test_a_compiled_function_asks_about_a_gpu_once(gpus):
    gpus[1] = NO_CODE
    marked = torch.compiler.assume_constant_result(lambda index: index)
    assert vars(marked) == vars(library._gpu_is_served), "what torch's decorator sets is set without importing it"

    def add(x):
        return x + 1 if library._gpu_is_served(1) else x - 1

    with pytest.warns(UserWarning, match="GPU 1 uses the PyTorch references"):
        compiled = torch.compile(add, fullgraph=True, backend="eager")
        assert compiled(torch.tensor(5)).item() == 4


@native_only
@pytest.mark.cuda_library
@pytest.mark.skipif(library.CUDA_ERROR is not None, reason="there is no CUDA library")
def test_the_cuda_library_says_whether_it_can_run():
    problem = library._cuda_problem(0)
    if torch.cuda.is_available():
        assert problem is None
    elif hasattr(ctypes.CDLL(str(PACKAGE / "_ops_cuda.so")), "maskformer_ext_cuda_problem"):  # not an older build
        assert problem, "without a GPU or its driver nothing can run"
