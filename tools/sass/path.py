"""Finds the cheapest way round a loop, and what the warp meets on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sass.listing import Instruction
from sass.loops import Block, Loop


@dataclass
class Way:
    """The instructions of one iteration, in their order. Inner loops are left out."""

    instructions: list[Instruction]
    units: int  # how many markers were passed

    @property
    def per_unit(self) -> float:
        """Instructions per unit."""
        return len(self.instructions) / self.units if self.units else float("inf")

    def calls(self) -> int:
        """Count the calls."""
        return sum(one.name == "CALL" for one in self.instructions)


def way_round(
    blocks: list[Block],
    loop: Loop,
    marks: Callable[[Instruction], bool] = lambda _: True,
    avoid: Callable[[Instruction], bool] = lambda _: False,
    through: Loop | None = None,
) -> Way | None:
    """Return the way round `loop` with the fewest instructions per marker.

    This is the path of usual values. What a rare case adds is left out, and work that carries the marker is kept.

    Args:
        blocks: the kernel's.
        loop: whose header the way starts from.
        marks: which instructions mark a unit of work.
        avoid: instructions that the way may not meet.
        through: a loop inside that the way must enter.

    Returns:
        the way, or None where no way has a marker.
    """
    inside = set().union(*(one.blocks for one in loop.inner)) if loop.inner else set()
    allowed = {i for i in loop.blocks if i in inside or not any(avoid(one) for one in blocks[i].instructions)}
    order = _order(blocks, loop, allowed)
    cost = {i: 0 if i in inside else len(blocks[i].instructions) for i in order}
    gain = {i: 0 if i in inside else sum(map(marks, blocks[i].instructions)) for i in order}
    must = through.header if through else None
    best: list[int] = []
    price = 0.0
    for _ in range(20):  # Dinkelbach: the least of cost - price * gain, until the price holds
        path = _cheapest(blocks, loop, order, {i: cost[i] - price * gain[i] for i in order}, must, gain)
        if not path or path == best:
            break
        best = path
        total = sum(gain[i] for i in path)
        if not total:
            break
        price = sum(cost[i] for i in path) / total
    if not best:
        return None
    return Way([one for i in best if i not in inside for one in blocks[i].instructions], sum(gain[i] for i in best))


def _order(blocks: list[Block], loop: Loop, allowed: set[int]) -> list[int]:
    """Sort the loop's blocks such that each comes after those that lead to it, back edges left out."""
    headers = {loop.header} | {one.header for one in _all_inside(loop)}
    state: dict[int, int] = {}
    order: list[int] = []
    if loop.header not in allowed:
        return order
    stack = [(loop.header, iter(blocks[loop.header].after))]
    state[loop.header] = 1
    while stack:
        block, rest = stack[-1]
        following = next(rest, None)
        if following is None:
            state[block] = 2
            order.append(block)
            stack.pop()
        elif following in allowed and following not in state:
            state[following] = 1
            stack.append((following, iter(blocks[following].after)))
        elif following in allowed and state[following] == 1 and following not in headers:
            continue  # an irreducible cycle: the edge is ignored
    order.reverse()
    return order


def _all_inside(loop: Loop) -> Iterable[Loop]:
    for one in loop.inner:
        yield one
        yield from _all_inside(one)


def _cheapest(
    blocks: list[Block],
    loop: Loop,
    order: list[int],
    weight: dict[int, float],
    must: int | None,
    gain: dict[int, int],
) -> list[int]:
    """Return the lightest path from the header back to it, with a marker and with the block `must`."""
    position = {block: i for i, block in enumerate(order)}
    # The state says whether the path has a marker and whether it passed `must`.
    best: dict[tuple[int, bool, bool], tuple[float, tuple[int, bool, bool] | None]] = {}
    if not order:
        return []
    start = (loop.header, gain[loop.header] > 0, must is None or loop.header == must)
    best[start] = (weight[loop.header], None)
    ends: list[tuple[float, tuple[int, bool, bool]]] = []
    for block in order:
        for key in [(block, a, b) for a in (False, True) for b in (False, True)]:
            if key not in best:
                continue
            so_far = best[key][0]
            for following in blocks[block].after:
                if following == loop.header:
                    ends.append((so_far, key))
                elif following in position and position[following] > position[block]:
                    new = (following, key[1] or gain[following] > 0, key[2] or following == must)
                    if new not in best or so_far + weight[following] < best[new][0]:
                        best[new] = (so_far + weight[following], key)
    ends = [end for end in ends if end[1][2] and (end[1][1] or must is not None)]
    if not ends:
        return []
    path: list[int] = []
    key_or_none: tuple[int, bool, bool] | None = min(ends)[1]
    while key_or_none is not None:
        path.append(key_or_none[0])
        key_or_none = best[key_or_none][1]
    return path[::-1]
