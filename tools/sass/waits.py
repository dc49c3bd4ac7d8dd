"""How long one warp takes round a loop, and how far loads stand from their first use.

The compiler writes into every instruction how long the next one waits and which of six barriers it sets or awaits.
Following them is exact but for the latencies, which are assumed: see `_CLOCKS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sass.listing import Instruction

L1, L2, MEMORY = 40, 250, 600  # clocks of a load from the first-level cache, from the second, and from memory

# Clocks until a result is there, for instructions that set a barrier. Rounded from published microbenchmarks.
_CLOCKS = {
    "LDS": 30, "LDSM": 33, "SHFL": 24, "MUFU": 20, "F2I": 20, "I2F": 20, "F2F": 20, "FRND": 20, "POPC": 16,
    "FLO": 16, "BREV": 16, "REDUX": 24, "LDC": 30, "S2R": 24, "S2UR": 24, "FCHK": 16, "VOTE": 12, "ATOMS": 60,
}  # fmt: skip
_LOADS = {"LDG", "LD", "LDL", "ATOM", "ATOMG"}
_BARRIER = 25  # clocks of __syncthreads, all warps together
_READ = 10  # clocks until a store has read its operands


@dataclass(frozen=True)
class Distance:
    """How far loads stand from their first use on the way round a loop."""

    loads: int
    least: int  # instructions between a load and its use
    rounds: int  # how often the warp waits for loads, those that it awaits together counted once


def clocks_round(way: Sequence[Instruction], load: int = L2) -> float:
    """Return the clocks that one warp alone takes for an iteration, its loads `load` clocks away."""
    ready: dict[int, float] = {}
    now, ends = 0.0, []
    for _ in range(4):  # until the barriers of the iteration before are as they stay
        for one in way:
            now = max([now, *(ready.get(barrier, 0.0) for barrier in one.waits)])
            if one.sets is not None:
                latency = load if one.name in _LOADS else _CLOCKS.get(one.name, 20)
                ready[one.sets] = max(ready.get(one.sets, 0.0), now + latency)
            if one.frees is not None:
                ready[one.frees] = max(ready.get(one.frees, 0.0), now + _READ)
            now += max(one.stall, 1) + (_BARRIER if one.name == "BAR" else 0)
        ends.append(now)
    return ends[-1] - ends[-2]


def load_distance(way: Sequence[Instruction]) -> Distance:
    """Return how far loads from global memory stand from their use."""
    pending: dict[int, list[int]] = {}
    distances: list[int] = []
    rounds = 0
    for turn in range(2):  # a load of one iteration may be used in the next
        for i, one in enumerate(way):
            at = turn * len(way) + i
            hit = [barrier for barrier in one.waits if barrier in pending]
            rounds += bool(hit) and turn == 1
            for barrier in hit:
                distances += [at - since for since in pending.pop(barrier)] if turn == 1 else []
                pending.pop(barrier, None)
            if one.name in _LOADS and one.sets is not None:
                pending.setdefault(one.sets, []).append(at)
    loads = sum(one.name in _LOADS for one in way)
    return Distance(loads, min(distances, default=0), rounds)
