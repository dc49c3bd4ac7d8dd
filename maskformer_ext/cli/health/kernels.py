"""Which kernels run here: the native libraries, the instruction set, and every GPU."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from importlib import import_module
from pathlib import Path

from maskformer_ext.cli.health.findings import NOTE, OK, TROUBLE, Section
from maskformer_ext.cli.health.machine import instruction_sets, processor
from maskformer_ext.errors import why

_BUILD = "make build (or: pip install --no-build-isolation --force-reinstall .)"
_BUILD_CUDA = "install nvcc 12.0 or newer, then make build"
_DRIVER = Path("/proc/driver/nvidia/version")


def look_at_kernels() -> tuple[Section, list[int]]:
    """Return what kernels there are, and the GPUs that run them.

    Every op of the package has been registered then.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is said here
        import_module("maskformer_ext.ops")
        section = Section("kernels")
        _add_cpu(section)
        _add_counting(section)
        return section, _add_gpus(section)


def _add_cpu(section: Section) -> None:
    from maskformer_ext.ops.support import library

    section.add("processor", f"{processor()}, offers {', '.join(instruction_sets())}")
    if library.REFERENCE:
        section.add("ops", "run their references", NOTE, "unset MASKFORMER_EXT_REFERENCE to run the kernels")
    if library.CPU_ERROR is not None:
        section.add("CPU library", library.CPU_ERROR, NOTE if library.REFERENCE else TROUBLE, _BUILD)
    elif outdated := library.outdated():
        section.add("CPU library", f"was built before {', '.join(outdated)}", TROUBLE, _BUILD)
    else:
        section.add("CPU library", f"loads, {len(library.kernels('cpu'))} kernels")


def _add_counting(section: Section) -> None:
    from maskformer_ext.ops.support.library import build_info

    info = build_info()
    if not info:
        return
    used, offered = info["cpu"], instruction_sets()
    asked = os.environ.get("MASKFORMER_EXT_CPU")
    narrowed = used != offered[-1]
    remedy = "unset MASKFORMER_EXT_CPU to use the widest" if asked else ""
    section.add("instruction set", used, NOTE if narrowed else OK, remedy if narrowed else "")
    section.add("built with", info["compiler"])


def _add_gpus(section: Section) -> list[int]:
    import torch

    from maskformer_ext.ops.support import library

    if torch.version.cuda is None:
        told = f"torch {torch.__version__} has no CUDA"
        if _driver():
            remedy = "pip install torch with CUDA, as https://pytorch.org/get-started says"
            section.add("GPU", f"{told}, but there is an NVIDIA driver {_driver()}", TROUBLE, remedy)
        else:
            section.add("GPU", f"{told}, and no NVIDIA driver is loaded: everything runs on the CPU")
        return []
    section.add("torch's CUDA", torch.version.cuda)
    if not torch.cuda.is_available():
        if _driver():
            remedy = "update the driver, or install a torch for an older CUDA (https://pytorch.org/get-started)"
            told = f"torch does not reach it ({_reason()}); the NVIDIA driver is {_driver()}"
            section.add("GPU", told, TROUBLE, remedy)
        else:
            section.add("GPU", "no NVIDIA driver is loaded: everything runs on the CPU")
        return []
    if library.CUDA_ERROR is None:
        section.add("CUDA library", f"loads, {len(library.kernels('cuda'))} kernels")
    else:
        remedy = "make build" if shutil.which("nvcc") else _BUILD_CUDA
        section.add("CUDA library", f"{library.CUDA_ERROR}; GPUs run the references", TROUBLE, remedy)
    return [index for index in range(torch.cuda.device_count()) if _add_gpu(section, index)]


def _add_gpu(section: Section, index: int) -> bool:
    """Add what is known of a GPU; return whether the kernels run there."""
    import torch

    from maskformer_ext.ops.support import library

    found = torch.cuda.get_device_properties(index)
    told = f"{found.name}, sm_{found.major}{found.minor}, {found.total_memory / 1e9:.0f} GB"
    problem = library.gpu_problem(index)
    if problem is None:
        section.add(f"GPU {index}", told)
        return True
    if library.CUDA_ERROR is not None:
        section.add(f"GPU {index}", f"{told}, runs the references", NOTE)
        return False
    remedy = "update the NVIDIA driver" if "driver" in problem.lower() else "make cuda, which compiles for every GPU"
    section.add(f"GPU {index}", f"{told}, runs the references: {problem}", TROUBLE, remedy)
    return False


def _driver() -> str:
    """Return the version of the NVIDIA driver that is loaded, empty where there is none."""
    try:
        text = _DRIVER.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"\b\d{3}\.\d+(?:\.\d+)?\b", text)
    return found[0] if found else "of an unknown version"


def _reason() -> str:
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return why(error)
    return "it says no more"
