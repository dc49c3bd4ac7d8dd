"""What the estimates assume of two GPUs, and what a processor (SM) of each architecture holds."""

from __future__ import annotations

from dataclasses import dataclass

PARTS = 4  # of a processor, each with a scheduler that issues one warp instruction per clock


@dataclass(frozen=True)
class Limits:
    """What one processor holds at once. Shared memory is in bytes, of which each block costs `reserved` more."""

    threads: int
    blocks: int
    shared: int
    registers: int = 65536
    reserved: int = 1024


# By compute capability, from the tables of the CUDA programming guide.
LIMITS = {
    80: Limits(2048, 32, 164 << 10),
    89: Limits(1536, 24, 100 << 10),
    90: Limits(2048, 32, 228 << 10),
    100: Limits(2048, 32, 228 << 10),
    120: Limits(1536, 24, 100 << 10),
}


@dataclass(frozen=True)
class Machine:
    """A GPU as the estimates take it: its processors, and how many lanes of each pipe one of them has."""

    name: str
    capability: int
    processors: int
    clock: float  # Hz
    bandwidth: float  # bytes per second
    double_lanes: int
    tensor_flops: int  # of bfloat16 with float32 sums, per clock and processor; TF32 has half
    mma_share: float = 1.0  # of that rate which synchronous products of a warp reach
    float_lanes: int = 128
    integer_lanes: int = 64
    special_lanes: int = 16
    memory_lanes: int = 32

    def clocks(self, pipe: str) -> float:
        """Return the clocks that a warp instruction keeps its pipe busy, of one of the four parts."""
        lanes = {
            "FMA": self.float_lanes,
            "ALU": self.integer_lanes,
            "MUFU": self.special_lanes,
            "FP64": self.double_lanes,
            "shared": self.memory_lanes,
            "memory": self.memory_lanes,
            "uniform": self.integer_lanes,
        }
        return 32 / (lanes.get(pipe, 128) / PARTS)

    def tensor_clocks(self, flops: float) -> float:
        """Return the clocks of a product of one warp, of one of the four parts."""
        return flops / (self.tensor_flops / PARTS)


H100 = Machine("H100", 90, 132, 1.7e9, 3.35e12, double_lanes=64, tensor_flops=4096, mma_share=0.62)
RTX_4090 = Machine("RTX 4090", 89, 128, 2.5e9, 1.01e12, double_lanes=2, tensor_flops=512)
MACHINES = (H100, RTX_4090)
