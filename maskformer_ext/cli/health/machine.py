"""The machine: threads, memory, disks, programs, and the variables that change what this package does."""

from __future__ import annotations

import difflib
import os
import shutil
from pathlib import Path

from maskformer_ext.cli.health.findings import NOTE, OK, TROUBLE, Section
from maskformer_ext.errors import printable

# What each variable does where it is set. Those of the build are read by CMake.
VARIABLES = {
    "MASKFORMER_EXT_REFERENCE": "1 runs every op on its PyTorch reference",
    "MASKFORMER_EXT_CHECKS": "1 makes a GPU raise for targets out of range, and wait for that",
    "MASKFORMER_EXT_CPU": "baseline or avx2 narrows the instruction set",
    "MASKFORMER_EXT_DATA": "the folder around the data sets",
    "MASKFORMER_EXT_MAX_PIXELS": "the most pixels of an image file",
    "MASKFORMER_EXT_TIMEOUT": "seconds that a process of training waits for another",
    "MASKFORMER_EXT_CUDA": "of the build: ON or OFF",
    "MASKFORMER_EXT_CUDA_ALL": "of the build: code for every GPU",
    "MASKFORMER_EXT_WERROR": "of the build: warnings are errors",
}
_VALUES = {
    "MASKFORMER_EXT_REFERENCE": ("0", "1"),
    "MASKFORMER_EXT_CHECKS": ("0", "1"),
    "MASKFORMER_EXT_CPU": ("baseline", "avx2", "avx512"),
}
_GB = 1e9
_LITTLE_DISK, _LITTLE_SHARED = 2.0, 0.5  # GB


def look_at_variables() -> Section:
    """Return the variables of this package that are set."""
    section = Section("variables")
    for name in sorted(name for name in os.environ if name.startswith("MASKFORMER_EXT_")):
        value = printable(os.environ[name])
        if name not in VARIABLES:
            near = difflib.get_close_matches(name, VARIABLES, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"the variables are {', '.join(VARIABLES)}"
            section.add(name, f"{value} (nothing reads it)", NOTE, remedy)
        elif name == "MASKFORMER_EXT_DATA" and not Path(value).is_dir():
            section.add(name, f"{value} (no such folder)", TROUBLE, "set it to the folder around the data sets")
        elif name == "MASKFORMER_EXT_REFERENCE" and value == "1":
            section.add(name, f"{value} ({VARIABLES[name]})", NOTE, f"unset {name} to run the kernels")
        elif value not in _VALUES.get(name, (value,)):
            *most, last = _VALUES[name]
            section.add(name, f"{value} (has no effect)", NOTE, f"give {', '.join(most)} or {last}")
        else:
            section.add(name, f"{value} ({VARIABLES[name]})")
    if not section.facts:
        section.add("MASKFORMER_EXT_*", "none is set")
    return section


def look_at_machine() -> Section:
    """Return threads, memory, free disk and programs."""
    import torch

    section = Section("machine")
    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    told = f"{threads} of torch on {cores} cores"
    few = threads < cores // 2 or (threads == 1 and cores > 1)
    by = next((name for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ), None)
    remedy = f"unset {by} to use all cores" if by else "torch.set_num_threads or OMP_NUM_THREADS sets another number"
    section.add("threads", told, NOTE if few else OK, remedy if few else "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    section.add("memory", f"{memory / _GB:.1f} GB")
    _add_disk(section, "disk here", Path.cwd(), "free some, as checkpoints take hundreds of megabytes")
    cache = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    _add_disk(section, "disk of the hub's cache", cache, "free some, or set HF_HOME to a folder on another disk")
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).total < _LITTLE_SHARED * _GB:
        size = shutil.disk_usage(shared).total / _GB
        remedy = "start the container with --shm-size=2g, or train with data.num_workers=0"
        section.add("shared memory", f"{size:.2f} GB", NOTE, remedy)
    section.add("ffmpeg", "on the PATH" if shutil.which("ffmpeg") else "not on the PATH; videos need PyAV only")
    return section


def processor() -> str:
    """Return the name of the processor, as Linux tells it."""
    return _cpuinfo("model name") or "unknown"


def instruction_sets() -> list[str]:
    """Return those of the kernels' instruction sets that the processor offers, the widest last."""
    flags = set(_cpuinfo("flags").split())
    offered = ["baseline"]
    if {"avx2", "fma"} <= flags:
        offered.append("avx2")
        if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
            offered.append("avx512")
    return offered


def _cpuinfo(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in text.splitlines() if line.partition(":")[0].strip() == key)
    return printable(next(found, ""))


def _add_disk(section: Section, name: str, place: Path, remedy: str) -> None:
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free / _GB
    little = free < _LITTLE_DISK
    section.add(name, f"{free:.1f} GB free", NOTE if little else OK, remedy if little else "")
