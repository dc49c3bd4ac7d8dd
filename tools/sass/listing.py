"""Parses what `cuobjdump -sass` prints into instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SIZE = 16  # bytes of an instruction
_ARCHITECTURE = re.compile(r"^\s*code for sm_(\d+)")
_FUNCTION = re.compile(r"^\s*Function : (\S+)")
_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
_CONTROL = re.compile(r"^\s*/\* 0x([0-9a-f]{16}) \*/\s*$")
_ADDRESS = re.compile(r"(?:^|[\s,(])0x([0-9a-f]+)\)?$")
_NO_BARRIER = 7


@dataclass
class Instruction:
    """One instruction. What it waits for comes from the control bits that the compiler writes into each."""

    address: int
    opcode: str  # with its modifiers, such as LDG.E.64
    operands: str
    guard: str = ""  # the predicate, such as !P0
    stall: int = 1  # clocks until the same warp may issue the next one
    sets: int | None = None  # the barrier that is released when its result is there
    frees: int | None = None  # the barrier that is released when its operands are read
    waits: frozenset[int] = frozenset()  # barriers that must be released before it issues

    @property
    def name(self) -> str:
        """The opcode without its modifiers."""
        return self.opcode.partition(".")[0]

    @property
    def target(self) -> int | None:
        """The address that it names last, where a branch or call goes."""
        found = _ADDRESS.search(self.operands)
        return int(found[1], 16) if found else None

    def has(self, pattern: str) -> bool:
        """Say whether the opcode is `pattern`, or begins with it and a dot."""
        return self.opcode == pattern or self.opcode.startswith(pattern + ".")


@dataclass
class Function:
    """A kernel's instructions for one architecture, in the order of their addresses."""

    name: str  # mangled
    architecture: int
    instructions: list[Instruction] = field(default_factory=list)


def parse(text: str) -> list[Function]:
    """Read the functions of every architecture in a listing."""
    functions: list[Function] = []
    architecture = 0
    for line in text.splitlines():
        if found := _LINE.match(line):
            if functions:
                address, guard, opcode, operands = int(found[1], 16), found[2] or "", found[3], found[4]
                functions[-1].instructions.append(Instruction(address, opcode, operands, guard))
        elif found := _CONTROL.match(line):
            if functions and functions[-1].instructions:
                _read_control(functions[-1].instructions[-1], int(found[1], 16))
        elif found := _FUNCTION.match(line):
            functions.append(Function(found[1], architecture))
        elif found := _ARCHITECTURE.match(line):
            architecture = int(found[1])
    return functions


def _read_control(instruction: Instruction, word: int) -> None:
    """Read the control bits: 4 of the stall, one of a hint, 3 and 3 of barriers that it sets, 6 of those it awaits."""
    sets, frees, waits = word >> 46 & 7, word >> 49 & 7, word >> 52 & 63
    instruction.stall = word >> 41 & 15
    instruction.sets = None if sets == _NO_BARRIER else sets
    instruction.frees = None if frees == _NO_BARRIER else frees
    instruction.waits = frozenset(barrier for barrier in range(6) if waits >> barrier & 1)
