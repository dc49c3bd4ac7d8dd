"""Load the native libraries once and decide, call by call, between a kernel and the PyTorch reference."""

import ctypes
import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad

from maskformer_ext.errors import UserError

NAMESPACE = "maskformer_ext"
BUILD_COMMAND = "make build (or: pip install --no-build-isolation .)"
_FOLDER = Path(__file__).resolve().parents[2]

# Read once, so that a compiled graph cannot disagree with an eager call.
REFERENCE = os.environ.get("MASKFORMER_EXT_REFERENCE", "0") == "1"


class MissingLibrary(UserError, RuntimeError):
    """No op can run, as the native library is missing, does not load, or was built from older sources."""


def _load(name: str) -> str | None:
    """Load one library of ops; return None on success, else the reason in one line."""
    path = _FOLDER / f"{name}.so"
    if not path.exists():
        return f"{path} does not exist"
    try:
        torch.ops.load_library(path)
    except (OSError, RuntimeError) as error:
        return f"{path} does not load ({str(error).strip().splitlines()[0]})"
    return None


def _kernels(dispatch_key: str) -> frozenset[str]:
    """Names of this package's ops that have a kernel for a dispatch key."""
    prefix = f"{NAMESPACE}::"
    registered = torch._C._dispatch_get_registrations_for_dispatch_key(dispatch_key)
    return frozenset(name.removeprefix(prefix) for name in registered if name.startswith(prefix))


CPU_ERROR = _load("_ops_cpu")
CUDA_ERROR: str | None = "torch has no CUDA"
if CPU_ERROR is None and torch.version.cuda is not None:  # schemas are in the CPU library
    CUDA_ERROR = _load("_ops_cuda")
    if CUDA_ERROR is not None and torch.cuda.is_available():
        warnings.warn(f"maskformer_ext: CUDA tensors use the PyTorch references: {CUDA_ERROR}", stacklevel=2)
_OUTDATED: set[str] = set()  # ops of this package that the library, built from older sources, does not have
_KERNELS = {"cpu": _kernels("CPU"), "cuda": _kernels("CUDA")}
_DIFFERENTIABLE: set[str] = set()  # those with an autograd formula, which is for reverse mode only
_SERVED: dict[int, bool] = {}  # by the number of a GPU: whether the CUDA library can run there


def c_functions() -> ctypes.CDLL | None:
    """Return the functions of the CPU library that are called with NumPy's memory, csrc/counting/counting.h.

    None where the library is missing, and under ``MASKFORMER_EXT_REFERENCE=1``.
    """
    if REFERENCE or CPU_ERROR is not None:
        return None
    library = ctypes.CDLL(str(_FOLDER / "_ops_cpu.so"))
    return library if hasattr(library, "maskformer_ext_joint_histogram") else None  # built from older sources


def run_functions() -> ctypes.CDLL | None:
    """Return the functions of csrc/counting/run_lengths.h and of positive_masks.h, or None as `c_functions`."""
    library = c_functions()
    if library is None or not hasattr(library, "maskformer_ext_positive_masks"):  # built from older sources
        return None
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    for name, result, arguments in (
        ("mask_texts", pointer, (pointer, pointer, count, count, count, pointer)),
        ("mask_texts_take", None, (pointer, pointer)),
        ("paint_masks", None, (pointer, pointer, count, count, count, pointer, pointer, pointer, pointer)),
        ("row_runs", pointer, (pointer, count, pointer, count, pointer, count, pointer, pointer)),
        ("row_runs_take", None, (pointer, pointer, pointer, pointer)),
        ("positive_masks", None, (pointer, pointer, *[count] * 5, pointer, pointer, pointer)),
    ):
        function = getattr(library, f"maskformer_ext_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def build_info() -> dict[str, str]:
    """Return what compiled the CPU library, "compiler", and the instruction set in use, "cpu"; {} without a library."""
    library = c_functions()
    if library is None:
        return {}
    library.maskformer_ext_compiler.restype = library.maskformer_ext_cpu_level.restype = ctypes.c_char_p
    return {
        "compiler": library.maskformer_ext_compiler().decode(),
        "cpu": library.maskformer_ext_cpu_level().decode(),
    }


def _cuda_problem(index: int) -> str | None:
    """Ask the CUDA library why it cannot run on a GPU: None where it can, else the CUDA runtime's own sentence."""
    library = ctypes.CDLL(str(_FOLDER / "_ops_cuda.so"))
    try:
        ask = library.maskformer_ext_cuda_problem
    except AttributeError:  # built before there was the question
        return None
    ask.restype = ctypes.c_char_p
    answer = ask(ctypes.c_int(index))
    return None if answer is None else answer.decode()


def kernels(device: str) -> frozenset[str]:
    """Return the native ops that have a kernel for a type of device."""
    return _KERNELS.get(device, frozenset())


def outdated() -> list[str]:
    """Return the ops, of those that have been imported, that the library was built without."""
    return sorted(_OUTDATED)


def gpu_problem(index: int) -> str | None:
    """Return why the kernels cannot run on a GPU, None where they can.

    Args:
        index: of the GPU, which must be there.
    """
    return CUDA_ERROR if CUDA_ERROR is not None else _cuda_problem(index)


def _gpu_is_served(index: int) -> bool:
    """Return whether a GPU runs the CUDA library, asked once; where it does not, one warning says why."""
    if index not in _SERVED:
        problem = _cuda_problem(index)
        _SERVED[index] = problem is None
        if problem is not None:
            warnings.warn(f"maskformer_ext: GPU {index} uses the PyTorch references: {problem}", stacklevel=3)
    return _SERVED[index]


# What torch.compiler.assume_constant_result sets, without its import of the compiler, which takes over a second.
_gpu_is_served._dynamo_marked_constant = True  # type: ignore[attr-defined]


def native(name: str, *tensors: Tensor | None) -> bool:
    """Return whether the native kernel of an op is to be used for these tensors.

    Args:
        name: the op as registered, `torch.ops.maskformer_ext.<name>`.
        tensors: the op's inputs; None is skipped.

    Returns:
        False where the PyTorch reference is to run instead:

        - under `MASKFORMER_EXT_REFERENCE=1`;
        - for float64 inputs;
        - on a device without a kernel, and on a GPU that the library has no code for;
        - where derivatives are asked for in a way that kernels do not have (``transformed``).

    Raises:
        MissingLibrary: a RuntimeError; the native library is missing, does not load, or was built from older sources.
    """
    if REFERENCE:
        return False
    if CPU_ERROR is not None or name in _OUTDATED:
        reason = CPU_ERROR or f"{_FOLDER / '_ops_cpu.so'} was built before {name} was added"
        raise MissingLibrary(
            f"maskformer_ext: the native library is not available, since {reason}: build it with `{BUILD_COMMAND}`, "
            "or set MASKFORMER_EXT_REFERENCE=1 to run on the PyTorch references"
        )
    if name in _DIFFERENTIABLE and transformed():
        return False
    for tensor in tensors:
        if tensor is None:
            continue
        if tensor.dtype == torch.float64 or name not in _KERNELS.get(tensor.device.type, ()):
            return False
        if tensor.device.type == "cuda" and not _gpu_is_served(tensor.device.index or 0):
            return False
    return True


def transformed() -> bool:
    """Return whether forward-mode derivatives or a transform of torch.func (jvp, grad, vmap) are under way.

    The formulas of native ops would give 0 for the first and an obscure error for the second; the references give what
    is right.
    """
    if forward_ad._current_level >= 0:
        return True
    return not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None


def without_autocast(tensor: Tensor) -> AbstractContextManager:
    """Switch autocast off for a tensor's device; the meta device, where shapes are counted, knows none."""
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)


def allow_tf32(tensor: Tensor) -> bool:
    """Return whether float32 products of this tensor may be rounded to TF32, as torch's own products are then."""
    if tensor.device.type != "cuda":
        return False
    if torch.compiler.is_compiling():  # which knows this name of the setting only
        return bool(torch.backends.cuda.matmul.allow_tf32)
    return torch.backends.cuda.matmul.fp32_precision == "tf32"  # the other name raises once this one has been set


def register(
    name: str,
    *,
    fake: Callable,
    backward: Callable | None = None,
    setup_context: Callable | None = None,
) -> None:
    """Register the fake implementation and the autograd formula of a native op, where the library was loaded.

    Args:
        name: the op, `torch.ops.maskformer_ext.<name>`; its schema is in csrc/<op>/binding.cpp.
        fake: shapes and dtypes of the outputs from the inputs, for torch.compile.
        backward: `backward(ctx, *grad_outputs)`, as torch.library.register_autograd's.
        setup_context: `setup_context(ctx, inputs, output)`.
    """
    if CPU_ERROR is not None:
        return
    if not hasattr(getattr(torch.ops, NAMESPACE), name):
        _OUTDATED.add(name)
        return
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake)
    if backward is not None:
        _DIFFERENTIABLE.add(name)
        torch.library.register_autograd(f"{NAMESPACE}::{name}", backward, setup_context=setup_context)


def once_differentiable(op: str, remedy: str = "use float64 inputs or MASKFORMER_EXT_REFERENCE=1") -> Callable:
    """Make the autograd formula of a native backward op that has no derivative itself: it says so instead of guessing.

    Args:
        op: the public name of the op.
        remedy: what gives a second derivative.

    Returns:
        `backward(ctx, *grads)` for `register`; it raises RuntimeError.
    """

    def backward(ctx: Any, *grads: Tensor | None) -> NoReturn:
        raise RuntimeError(f"{op}: the native kernel has no second derivative; {remedy}")

    return backward
