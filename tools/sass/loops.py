"""Finds the loops of a kernel: basic blocks, dominators, back edges."""

from __future__ import annotations

from dataclasses import dataclass, field

from sass.listing import SIZE, Function, Instruction

_ENDS = {"EXIT", "RET", "BRX", "BRXU", "JMX", "BPT", "KILL", "ENDCOLLECTIVE"}
_JUMPS = {"BRA", "JMP"}


@dataclass
class Block:
    """Instructions that run one after the other. Successors are places in the list of blocks."""

    instructions: list[Instruction]
    after: list[int] = field(default_factory=list)


@dataclass
class Loop:
    """A natural loop: its first block, all its blocks, and the loops right inside."""

    header: int
    blocks: set[int]
    inner: list[Loop] = field(default_factory=list)
    outer: Loop | None = None

    @property
    def depth(self) -> int:
        """1 for an outermost loop."""
        return 1 if self.outer is None else self.outer.depth + 1


def conditional(instruction: Instruction) -> bool:
    """Say whether a jump may also fall through. Its condition is the guard, or a predicate among the operands."""
    return bool(instruction.guard) or "," in instruction.operands


def blocks_of(function: Function) -> list[Block]:
    """Split a function into basic blocks, the entry first. Calls count as straight code."""
    code = function.instructions
    leaders = {code[0].address} if code else set()
    for instruction in code:
        if instruction.name in _JUMPS or instruction.name == "CALL":
            leaders.add(instruction.target if instruction.target is not None else -1)
        if instruction.name in _JUMPS or instruction.name in _ENDS:
            leaders.add(instruction.address + SIZE)
    blocks: list[Block] = []
    for instruction in code:
        if instruction.address in leaders or not blocks:
            blocks.append(Block([]))
        blocks[-1].instructions.append(instruction)
    place = {block.instructions[0].address: i for i, block in enumerate(blocks)}
    for i, block in enumerate(blocks):
        block.after = _successors(block.instructions[-1], place, i + 1 if i + 1 < len(blocks) else None)
    _follow_tables(blocks, place)
    return blocks


def _successors(last: Instruction, place: dict[int, int], following: int | None) -> list[int]:
    falls = [] if following is None else [following]
    if last.has("BRA.DIV"):  # taken by a warp whose lanes have parted
        return falls
    if last.name in _JUMPS:
        jumps = [place[last.target]] if last.target in place else []
        return list(dict.fromkeys(jumps + falls)) if conditional(last) else jumps
    if last.name in _ENDS:
        return falls if last.guard else []
    return falls


def _follow_tables(blocks: list[Block], place: dict[int, int]) -> None:
    """Lead a jump by a table to every later block that nothing else leads to. The listing names no targets."""
    named = _JUMPS | {"CALL", "WARPSYNC"}
    targets = {one.target for block in blocks for one in block.instructions if one.name in named}
    reached = {i for block in blocks for i in block.after} | {place[one] for one in targets if one in place}
    for i, block in enumerate(blocks):
        if block.instructions[-1].name in {"BRX", "BRXU"}:
            block.after += [j for j in range(i + 1, len(blocks)) if j not in reached and j not in block.after]


def loops_of(blocks: list[Block]) -> list[Loop]:
    """Find the loops, outer ones first. Loops that share a header are one."""
    dominators = _dominators(blocks)
    before: list[list[int]] = [[] for _ in blocks]
    for i, block in enumerate(blocks):
        for j in block.after:
            before[j].append(i)
    bodies: dict[int, set[int]] = {}
    for i, block in enumerate(blocks):
        for header in block.after:
            if header in dominators.get(i, ()):
                bodies.setdefault(header, {header}).update(_body(header, i, before, dominators))
    loops = [Loop(header, body) for header, body in sorted(bodies.items(), key=lambda one: -len(one[1]))]
    for i, loop in enumerate(loops):
        around = [other for other in loops[:i] if loop.header in other.blocks and loop.blocks < other.blocks]
        if around:
            loop.outer = around[-1]
            loop.outer.inner.append(loop)
    return loops


def _body(header: int, latch: int, before: list[list[int]], known: dict[int, set[int]]) -> set[int]:
    body, waiting = {header}, [latch]
    while waiting:
        block = waiting.pop()
        if block not in body and block in known:
            body.add(block)
            waiting += before[block]
    return body


def _dominators(blocks: list[Block]) -> dict[int, set[int]]:
    """Return for each reachable block the blocks that every way to it passes."""
    order, seen, stack = [], {0}, [(0, iter(blocks[0].after if blocks else []))]
    while stack:
        block, rest = stack[-1]
        following = next((j for j in rest if j not in seen), None)
        if following is None:
            order.append(block)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(blocks[following].after)))
    order.reverse()
    before: dict[int, list[int]] = {block: [] for block in order}
    for block in order:
        for j in blocks[block].after:
            before[j].append(block)
    dominators: dict[int, set[int]] = {order[0]: {order[0]}}
    changed = True
    while changed:
        changed = False
        for block in order[1:]:
            known = [dominators[i] for i in before[block] if i in dominators]
            new = set.intersection(*known) | {block}
            if dominators.get(block) != new:
                dominators[block], changed = new, True
    return dominators
