"""Load the native libraries once and decide, call by call, between a kernel and the PyTorch reference."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

NAMESPACE = "maskformer_ext"
BUILD_COMMAND = "make build (or: pip install --no-build-isolation .)"
_FOLDER = Path(__file__).resolve().parent.parent

# Read once, so that a compiled graph cannot disagree with an eager call.
REFERENCE = os.environ.get("MASKFORMER_EXT_REFERENCE", "0") == "1"


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


def native(name: str, *tensors: Tensor | None) -> bool:
    """Tell whether the native kernel of an op is to be used for these tensors.

    Args:
        name: the op as registered, `torch.ops.maskformer_ext.<name>`.
        tensors: the op's inputs; None is skipped.

    Returns:
        False where the PyTorch reference is to run instead: under `MASKFORMER_EXT_REFERENCE=1`, for float64 inputs, and
        on a device without a kernel.

    Raises:
        RuntimeError: the native library is missing, does not load, or was built from older sources.
    """
    if REFERENCE:
        return False
    if CPU_ERROR is not None or name in _OUTDATED:
        reason = CPU_ERROR or f"{_FOLDER / '_ops_cpu.so'} was built before {name} was added"
        raise RuntimeError(
            f"maskformer_ext: the native library is not available, since {reason}: build it with `{BUILD_COMMAND}`, "
            "or set MASKFORMER_EXT_REFERENCE=1 to run on the PyTorch references"
        )
    for tensor in tensors:
        if tensor is not None and (tensor.dtype == torch.float64 or name not in _KERNELS.get(tensor.device.type, ())):
            return False
    return True


def allow_tf32(tensor: Tensor) -> bool:
    """Tell whether float32 products of this tensor may be rounded to TF32, as torch's own products are then."""
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
        torch.library.register_autograd(f"{NAMESPACE}::{name}", backward, setup_context=setup_context)


def once_differentiable(op: str) -> Callable:
    """Make the autograd formula of a native backward op that has no derivative itself: it says so instead of guessing.

    Args:
        op: the public name of the op.

    Returns:
        `backward(ctx, *grads)` for `register`; it raises RuntimeError.
    """

    def backward(ctx, *grads):
        raise RuntimeError(
            f"{op}: the native kernel has no second derivative; use float64 inputs or MASKFORMER_EXT_REFERENCE=1"
        )

    return backward
