"""Lists the loops of kernels: instructions on the cheapest way round, by pipe, per marker."""

from __future__ import annotations

import re
from collections.abc import Callable

from sass.listing import Function, Instruction
from sass.loops import Block, Loop, blocks_of, loops_of
from sass.path import way_round
from sass.pipes import PIPES, count_pipes

_MARKS = ("MUFU.EX2", "MUFU.RCP", "MUFU.LG2", "LDG", "LDS", "STG", "STS", "HMMA", "SHFL", "BAR", "DADD", "CALL")


def describe(function: Function, mark: str = "", avoid: str = "", innermost: bool = True) -> list[str]:
    """Return a line for each loop: its cheapest way round by pipe, per marker where `mark` is given."""
    blocks = blocks_of(function)
    lines = []
    marks, avoids = matcher(mark or ".*"), matcher(avoid or "$")
    for loop in loops_of(blocks):
        if innermost and loop.inner:
            continue
        way = way_round(blocks, loop, marks, avoids)
        if way is None:
            continue
        count, pipes = len(way.instructions), count_pipes(way.instructions)
        units = f", {way.units} units: {way.per_unit:.1f} per unit" if mark else ""
        static = sum(len(blocks[i].instructions) for i in loop.blocks)
        seen = " ".join(f"{name} {n}" for name in _MARKS if (n := sum(one.has(name) for one in way.instructions)))
        place = f"    loop at {address(blocks, loop):#06x}, depth {loop.depth}"
        lines.append(f"{place}: {count} on its cheapest way of {static}{units}")
        lines.append("      " + ", ".join(f"{pipe} {pipes[pipe]}" for pipe in PIPES if pipes[pipe]) + f" ({seen})")
    return lines


def address(blocks: list[Block], loop: Loop) -> int:
    """Return where a loop begins."""
    first: Instruction = blocks[loop.header].instructions[0]
    return first.address


def matcher(pattern: str) -> Callable[[Instruction], bool]:
    """Return a function that says whether an instruction's opcode matches a regular expression from its start."""
    compiled = re.compile(pattern)
    return lambda one: compiled.match(one.opcode) is not None
