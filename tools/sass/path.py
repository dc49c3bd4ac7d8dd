"""Finds the way of usual values round a loop: the cheapest that does the work."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sass.listing import Instruction
from sass.loops import Block, Loop

Test = Callable[[Instruction], bool]
FEWEST, EACH, MOST = "fewest", "each", "most"  # see way_round


@dataclass
class Way:
    """The instructions of one iteration, in their order. Inner loops are left out."""

    instructions: list[Instruction]
    marks: int  # how many markers were passed


@dataclass
class _Search:
    """A loop without its back edges: the blocks in an order where each comes after those that lead to it."""

    blocks: list[Block]
    header: int
    order: list[int]
    cost: dict[int, int]  # instructions
    gain: dict[int, int]  # markers
    must: int | None  # a block that the way passes

    def cheapest(self, price: float) -> list[int]:
        """Return the path from the header back to it with the least cost - price * gain, with a marker and `must`."""
        position = {block: i for i, block in enumerate(self.order)}
        # A state is a block, whether the path to it has a marker, and whether it passed `must`.
        start = (self.header, self.gain[self.header] > 0, self.must in (None, self.header))
        best: dict[tuple[int, bool, bool], tuple[float, tuple[int, bool, bool] | None]] = {}
        best[start] = (self._weight(self.header, price), None)
        ends = []
        for block in self.order:
            for key in [(block, marked, passed) for marked in (False, True) for passed in (False, True)]:
                if key not in best:
                    continue
                for following in self.blocks[block].after:
                    if following == self.header:
                        ends.append((best[key][0], key))
                    elif position.get(following, -1) > position[block]:
                        new = (following, key[1] or self.gain[following] > 0, key[2] or following == self.must)
                        weight = best[key][0] + self._weight(following, price)
                        if new not in best or weight < best[new][0]:
                            best[new] = (weight, key)
        ends = [(weight, key) for weight, key in ends if key[2] and (key[1] or self.must is not None)]
        path: list[int] = []
        at = min(ends)[1] if ends else None
        while at is not None:
            path.append(at[0])
            at = best[at][1]
        return path[::-1]

    def _weight(self, block: int, price: float) -> float:
        return self.cost[block] - price * self.gain[block]


def way_round(
    blocks: list[Block],
    loop: Loop,
    marks: Test = lambda _: True,
    avoid: Test = lambda _: False,
    select: str = FEWEST,
    through: Loop | None = None,
) -> Way | None:
    """Return the way round `loop` that usual values take, as far as instructions tell.

    Args:
        blocks: the kernel's.
        loop: whose header the way starts from.
        marks: which instructions mark the work. The way has at least one of them.
        avoid: instructions that the way does not meet.
        select: FEWEST instructions, fewest for EACH marker, or the MOST markers.
        through: a loop inside that the way must enter. It needs no marker then.

    Returns:
        the way, or None where no way has a marker.
    """
    inside: set[int] = set().union(*(one.blocks for one in loop.inner))
    code = {i: with_calls(blocks, i) for i in loop.blocks - inside}
    allowed = {i for i in loop.blocks if i in inside or not any(map(avoid, blocks[i].instructions))}
    order = _order(blocks, loop, allowed)
    if not order:
        return None
    cost = {i: 0 if i in inside else len(code[i]) for i in order}
    gain = {i: 0 if i in inside else sum(map(marks, blocks[i].instructions)) for i in order}
    search = _Search(blocks, loop.header, order, cost, gain, through.header if through else None)
    path = search.cheapest(sum(cost.values()) + 1 if select == MOST else 0)
    price = math.inf
    while select == EACH and path:  # Dinkelbach's method: the price falls until no path is below it
        total, count = sum(cost[i] for i in path), sum(gain[i] for i in path)
        if not count or total / count >= price:
            break
        price = total / count
        path = search.cheapest(price)
    if not path:
        return None
    return Way([one for i in path if i not in inside for one in code[i]], sum(gain[i] for i in path))


def with_calls(blocks: list[Block], block: int) -> list[Instruction]:
    """Return a block's instructions with those of the functions that it calls, by their shortest way back."""
    code = []
    for one in blocks[block].instructions:
        code.append(one)
        if one.name == "CALL":
            code += _shortest_call(blocks, one.target)
    return code


def _shortest_call(blocks: list[Block], address: int | None) -> list[Instruction]:
    starts = [i for i, block in enumerate(blocks) if block.instructions[0].address == address]
    queue: list[tuple[int, int, tuple[int, ...]]] = [(len(blocks[i].instructions), i, (i,)) for i in starts]
    done: set[int] = set()
    while queue:
        cost, i, path = heapq.heappop(queue)
        if i in done:
            continue
        done.add(i)
        if any(one.name == "RET" for one in blocks[i].instructions):
            return [one for j in path for one in blocks[j].instructions]
        for j in blocks[i].after:
            heapq.heappush(queue, (cost + len(blocks[j].instructions), j, (*path, j)))
    return []


def _order(blocks: list[Block], loop: Loop, allowed: set[int]) -> list[int]:
    """Sort the blocks such that each comes after those that lead to it. Back edges do not count."""
    order: list[int] = []
    if loop.header not in allowed:
        return order
    seen = {loop.header}
    stack = [(loop.header, iter(blocks[loop.header].after))]
    while stack:
        block, rest = stack[-1]
        following = next((i for i in rest if i in allowed and i not in seen), None)
        if following is None:
            order.append(block)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(blocks[following].after)))
    return order[::-1]


def instructions_of(blocks: list[Block], loop: Loop) -> Iterable[Instruction]:
    """Yield all instructions of a loop that are in none of its inner loops."""
    inside: set[int] = set().union(*(one.blocks for one in loop.inner))
    for i in sorted(loop.blocks - inside):
        yield from blocks[i].instructions
