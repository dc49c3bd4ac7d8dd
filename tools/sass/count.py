"""Counts what a unit of work costs in a kernel's hottest loop."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sass.binaries import Kernel
from sass.listing import Instruction
from sass.loops import Block, Loop, blocks_of, loops_of
from sass.occupancy import resident_blocks
from sass.path import Way, instructions_of, way_round
from sass.pipes import pipe_of
from sass.waits import L1, L2, MEMORY, clocks_round, load_distance
from sass.work import Stage

_WIDE = re.compile(r"\.(64|128)\b")
_SHARED = {"LDS", "STS", "LDSM", "STSM", "ATOMS"}


@dataclass
class Count:
    """The loop of a stage, per unit of its work. Pipes hold warp instructions."""

    stage: str
    kernel: str
    architecture: int
    units: float  # of an iteration
    instructions: float
    pipes: dict[str, float]
    busy: dict[str, float]  # as `pipes`, where an access of 64 or 128 bits to shared memory counts twice or four times
    calls: int  # on the way
    shared_accesses: float
    loads: int  # from global memory, of an iteration
    distance: int  # instructions between such a load and its use, at least
    rounds: int  # how often an iteration waits for loads
    clocks: float  # of one warp alone, with loads from the second-level cache; from the first where they are near
    clocks_far: float  # and with loads from memory; from the second-level cache where they are near
    registers: int
    shared: int  # bytes of a block
    threads: int
    promised: int  # blocks per processor, by __launch_bounds__
    address: int = 0  # where the loop begins, in this compilation

    def resident(self, capability: int) -> int:
        """Return how many blocks a processor holds."""
        return resident_blocks(capability, self.threads or 32, self.registers, self.shared)


def matcher(pattern: str) -> Callable[[Instruction], bool]:
    """Return a test of whether an opcode begins with a regular expression. An empty one fits nothing."""
    compiled = re.compile(pattern or r"(?!)")
    return lambda one: compiled.match(one.opcode) is not None


def find(stage: Stage, kernels: Sequence[Kernel], architecture: int) -> list[Kernel]:
    """Return the instances of a stage's kernel for one architecture."""
    name = re.compile(stage.kernel)
    return [one for one in kernels if one.architecture == architecture and name.match(one.name)]


def count(stage: Stage, kernel: Kernel) -> Count | None:
    """Count the loop of `kernel` that does the stage's work with the fewest instructions; None without such a loop."""
    blocks = blocks_of(kernel.function)
    counts = [one for loop in loops_of(blocks) if (one := _count_loop(stage, kernel, blocks, loop)) is not None]
    return min(counts, key=lambda one: one.instructions, default=None)


def _count_loop(stage: Stage, kernel: Kernel, blocks: list[Block], loop: Loop) -> Count | None:
    marks, needs = matcher(stage.marker), matcher(stage.needs or ".")
    own = list(instructions_of(blocks, loop))
    if not any(map(marks, own)) or not any(map(needs, own)):
        return None
    way = way_round(blocks, loop, marks, matcher(stage.avoid), stage.select)
    if way is None or not any(map(needs, way.instructions)):
        return None
    units = way.marks / stage.marks if stage.marks else stage.fixed
    shares = [(way, units)]
    if stage.outer and loop.outer is not None:
        around = way_round(blocks, loop.outer, lambda _: False, through=loop)
        shares += [(around, stage.outer)] if around else []
    pipes, busy = _shares(shares, lambda _: 1.0), _shares(shares, _accesses)
    code = way.instructions
    loads = load_distance(code)
    return Count(
        stage=stage.name,
        kernel=kernel.name,
        architecture=kernel.architecture,
        units=units,
        instructions=sum(pipes.values()),
        pipes=pipes,
        busy=busy,
        calls=sum(one.name == "CALL" for one in code),
        shared_accesses=sum(one.name in _SHARED for one in code) / units,
        loads=loads.loads,
        distance=loads.least,
        rounds=loads.rounds,
        clocks=clocks_round(code, L1 if stage.near else L2) / units,
        clocks_far=clocks_round(code, L2 if stage.near else MEMORY) / units,
        registers=kernel.registers,
        shared=kernel.shared,
        threads=kernel.threads,
        promised=kernel.promised,
        address=blocks[loop.header].instructions[0].address,
    )


def _accesses(instruction: Instruction) -> float:
    """Return how often shared memory is passed: a lane gets 4 bytes at a time."""
    wide = _WIDE.search(instruction.opcode) if instruction.name in _SHARED else None
    return int(wide[1]) / 32 if wide else 1.0


def _shares(ways: Sequence[tuple[Way, float]], weight: Callable[[Instruction], float]) -> dict[str, float]:
    pipes: Counter[str] = Counter()
    for way, units in ways:
        for one in way.instructions:
            pipes[pipe_of(one)] += weight(one) / units  # type: ignore[assignment]
    return dict(pipes)
