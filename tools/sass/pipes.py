"""Says which pipe of a processor (SM) runs an instruction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sass.listing import Instruction

PIPES = ("FMA", "ALU", "MUFU", "FP64", "tensor", "shared", "memory", "branch", "uniform")

_NAMES = {
    "FMA": "FFMA FADD FMUL FFMA32I FADD32I FMUL32I IMAD HFMA2 HADD2 HMUL2 FFMA2 FADD2 FMUL2 HFMA2_MMA IDP FSWZADD",
    "MUFU": "MUFU I2F F2I F2F FRND POPC FLO BREV",
    "FP64": "DADD DFMA DMUL DSETP DMNMX",
    "tensor": "HMMA IMMA DMMA BMMA QMMA OMMA HGMMA IGMMA QGMMA WARPGROUP",
    "shared": "LDS STS LDSM STSM ATOMS SHFL REDUX",
    "memory": "LDG STG LD ST LDL STL ATOM ATOMG RED REDG LDGSTS LDGDEPBAR CCTL MEMBAR LDC UBLKCP ERRBAR",
    "branch": "BRA BRX BRXU JMP JMX CALL RET EXIT BSSY BSYNC BREAK BAR WARPSYNC NOP DEPBAR YIELD BMOV NANOSLEEP B2R "
    "BPT KILL ENDCOLLECTIVE ELECT VOTE S2R CS2R SYNCS ACQBULK",
}
_PIPE = {name: pipe for pipe, names in _NAMES.items() for name in names.split()}


def pipe_of(instruction: Instruction) -> str:
    """Return the pipe. Integers, comparisons, selects and moves run in ALU; what is unknown does too."""
    name = instruction.name
    if name in _PIPE:
        return _PIPE[name]
    if name.startswith("U") or name in {"R2UR", "S2UR", "VOTEU", "REDUXU"}:
        return "uniform"
    return "ALU"


def count_pipes(instructions: Iterable[Instruction]) -> Counter[str]:
    """Count instructions by pipe."""
    return Counter(pipe_of(instruction) for instruction in instructions)
