"""Lists the loops of kernels: instructions on the cheapest way round, by pipe; and a kernel's facts on one line."""

from __future__ import annotations

from sass.binaries import Kernel
from sass.count import matcher
from sass.loops import blocks_of, loops_of
from sass.machines import LIMITS
from sass.occupancy import resident_blocks
from sass.path import FEWEST, instructions_of, way_round
from sass.pipes import PIPES, count_pipes

_SHOWN = ("MUFU.EX2", "MUFU.RCP", "MUFU.LG2", "LDG", "LDS", "STG", "STS", "HMMA", "SHFL", "REDUX", "BAR", "CALL")


def loop_list(kernel: Kernel, mark: str = "", avoid: str = "", select: str = FEWEST) -> list[str]:
    """Return two lines for each loop without its inner loops: what its way costs, per marker where one is given."""
    blocks = blocks_of(kernel.function)
    lines = [f"{kernel.name}, sm_{kernel.architecture}, {len(kernel.function.instructions)} instructions"]
    for loop in loops_of(blocks):
        way = way_round(blocks, loop, matcher(mark or "."), matcher(avoid), select)
        if way is None:
            continue
        count, pipes = len(way.instructions), count_pipes(way.instructions)
        units = f", {way.marks} markers: {count / way.marks:.1f} each" if mark else ""
        seen = " ".join(f"{name} {n}" for name in _SHOWN if (n := sum(one.has(name) for one in way.instructions)))
        lines += [
            f"  loop at {blocks[loop.header].instructions[0].address:#06x}, depth {loop.depth}: {count} of "
            f"{len(list(instructions_of(blocks, loop)))}{units}",
            "    " + ", ".join(f"{pipe} {pipes[pipe]}" for pipe in PIPES if pipes[pipe]) + f" ({seen})",
        ]
    return lines


def summary(kernel: Kernel) -> tuple[str, str, str]:
    """Return blocks per processor by what is promised, the costliest innermost loop, and calls that loops cannot avoid.

    That loop's cost is the instructions of its cheapest way round, whatever an iteration does.
    """
    blocks = blocks_of(kernel.function)
    ways = [(loop, way_round(blocks, loop)) for loop in loops_of(blocks)]
    inner = [len(way.instructions) for loop, way in ways if way and not loop.inner]
    calls = sum(one.name == "CALL" for _, way in ways if way for one in way.instructions)
    resident = "-"
    if kernel.architecture in LIMITS and kernel.threads:
        here = resident_blocks(kernel.architecture, kernel.threads, kernel.registers, kernel.shared)
        resident = f"{here}/{kernel.promised}"
    return resident, str(max(inner, default=0) or "-"), str(calls or "-")
