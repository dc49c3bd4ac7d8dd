"""Reads what ptxas says of kernels: registers, shared memory, stack and spills."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sass.binaries import demangle

_ENTRY = re.compile(r"Compiling entry function '(\S+)' for 'sm_(\d+)\w*'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass
class Usage:
    """One kernel for one architecture. Sizes are in bytes."""

    name: str
    architecture: int
    registers: int = 0
    shared: int = 0
    stack: int = 0
    spills: int = 0


def parse(text: str) -> list[Usage]:
    """Read ptxas's lines. Names are demangled where c++filt is installed."""
    kernels: list[Usage] = []
    for line in text.splitlines():
        if found := _ENTRY.search(line):
            kernels.append(Usage(found[1], int(found[2])))
        elif kernels and (found := _STACK.search(line)):
            kernels[-1].stack, kernels[-1].spills = int(found[1]), int(found[2]) + int(found[3])
        elif kernels and (found := _USED.search(line)):
            kernels[-1].registers = int(found[1])
            if shared := _SHARED.search(line):
                kernels[-1].shared = int(shared[1])
    for kernel, name in zip(kernels, demangle([kernel.name for kernel in kernels]), strict=True):
        kernel.name = name
    return kernels


def usage_table(
    kernels: Sequence[Usage], facts: Mapping[tuple[str, int], Sequence[str]] = MappingProxyType({})
) -> list[str]:
    """Return the lines of a table, by name and architecture.

    Args:
        kernels: what ptxas says.
        facts: by name and architecture, what machine code tells: blocks, instructions of a loop, calls.
    """
    width = max((len(kernel.name) for kernel in kernels), default=6)
    lines = [f"  {'kernel':{width}}  sm   registers  shared  stack  spills  blocks  loop  calls"]
    for kernel in sorted(kernels, key=lambda one: (one.name, one.architecture)):
        blocks, loop, calls = facts.get((kernel.name, kernel.architecture), ("", "", ""))
        line = (
            f"  {kernel.name:{width}}  {kernel.architecture:<4} {kernel.registers:9}  {kernel.shared:6}  "
            f"{kernel.stack:5}  {kernel.spills:6}  {blocks:>6}  {loop:>4}  {calls:>5}"
        )
        lines.append(line.rstrip())
    return lines
