"""Forms floors and estimates of a call from counts, for one GPU. Nothing here was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sass.count import Count
from sass.machines import PARTS, Machine
from sass.work import MMA, Part, Work

IMPERFECT = 1.25  # what an estimate adds at the upper end: work that does not overlap, and the last blocks' tail


@dataclass(frozen=True)
class Estimate:
    """Times in seconds. A floor is what one resource alone would take."""

    bytes: float
    special: float
    arithmetic: float  # multiply-adds and tensor cores
    issue: float  # all instructions, one per clock and scheduler
    low: float
    high: float
    bound: str  # what takes longest, of the stage that takes longest


def estimate(work: Work, counts: Mapping[str, Count], machine: Machine) -> Estimate | None:
    """Estimate a call, or return None where a stage was not counted."""
    if any(part.stage.name not in counts for part in work.parts):
        return None
    speed = machine.processors * machine.clock  # clocks per second, of all processors
    tensor = work.flops / (machine.tensor_flops * (0.5 if work.half_rate else 1.0) * speed)
    special = fma = issue = 0.0
    bounds: list[tuple[float, float, str]] = []
    for part in work.parts:
        special += part.units * part.stage.special / (machine.special_lanes * speed)
        fma += part.units * part.stage.fma / (machine.float_lanes * speed)
        issue += _warps(part) * counts[part.stage.name].instructions / (PARTS * speed)
        bounds.append(_bounds(part, counts[part.stage.name], machine))
    passed = work.bytes / machine.bandwidth
    low, high = max(passed, sum(one[0] for one in bounds)), max(passed, sum(one[1] for one in bounds))
    bound = "bytes" if passed >= high else max(bounds)[2]
    return Estimate(passed, special, fma + tensor, issue, low, high * IMPERFECT, bound)


def _warps(part: Part) -> float:
    """Return how many units warps have, over all of them. A chain's are those of every block."""
    units = part.units * max(part.blocks, 1)
    return units if part.stage.per_warp else units / 32


def _bounds(part: Part, count: Count, machine: Machine) -> tuple[float, float, str]:
    """Return a stage's time with loads as near and as far as they may be, and what bounds it."""
    blocks = count.resident(machine.capability)
    warps_of_block = -(-count.threads // 32)
    if part.blocks:  # every unit waits for the one before, and double arithmetic of all warps for its few lanes
        turns = math.ceil(part.blocks / (machine.processors * max(blocks, 1)))
        double = count.busy.get("FP64", 0.0) * machine.clocks("FP64") * max(warps_of_block / PARTS, 1.0)
        times = [turns * part.units * (clocks + double) / machine.clock for clocks in (count.clocks,) * 2]
        return times[0], times[1], "chain"
    clocks = {pipe: used * _clocks(pipe, machine) for pipe, used in count.busy.items()}
    pipe = max(clocks, key=lambda name: clocks[name])
    scale = _warps(part) / (PARTS * machine.processors * machine.clock)
    busy = max((count.instructions, "issue"), (clocks[pipe], pipe))
    waiting = [alone * PARTS / (max(blocks, 1) * warps_of_block) for alone in (count.clocks, count.clocks_far)]
    bound = "latency" if waiting[0] > busy[0] else busy[1]
    return scale * max(busy[0], waiting[0]), scale * max(busy[0], waiting[1]), bound


def _clocks(pipe: str, machine: Machine) -> float:
    """Return how long an instruction keeps one part's pipe busy. A TF32 product has half the terms at half the rate."""
    return machine.tensor_clocks(MMA) / machine.mma_share if pipe == "tensor" else machine.clocks(pipe)
