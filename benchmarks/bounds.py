"""How far CPU kernels are from what this processor allows: `python -m benchmarks.bounds`.

One thread and CPU time. A bound is the time of what a kernel must do at least, at rates that are measured here:

- bytes at the rate of torch's copy of large tensors,
- multiply-adds at the rate of independent ones in registers,
- a loop's vector instructions, counted in the library's machine code. A loop of assembly runs as many of each kind,
  none of which waits for another.

MASKFORMER_EXT_CPU=avx2 narrows the processor. A C compiler is needed for the loops of assembly.
"""

from __future__ import annotations

import ctypes
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.isolated import build
from benchmarks.processor import instruction_set, processor

LANES = {"avx2": 8, "avx512": 16}
# An instruction of each kind, for vectors with the letter v. %1 is readable memory. Registers 14 and 15 hold numbers.
_KINDS = {
    "fma": ("vfmadd231ps %%{v}15, %%{v}14, %%{v}{to}",),  # products too
    "add": ("vaddps %%{v}15, %%{v}14, %%{v}{to}",),
    # what comparisons, selections, limits and arithmetic of bits take
    "other": (
        "vpslld $23, %%{v}14, %%{v}{to}",
        "vminps %%{v}15, %%{v}14, %%{v}{to}",
        "vpaddd %%{v}15, %%{v}14, %%{v}{to}",
    ),
    "div": ("vdivps %%{v}15, %%{v}14, %%{v}{to}",),
    "move": ("vmovups (%1), %%{v}{to}",),
}


class Loop(NamedTuple):
    """Vector instructions of a loop's body by kind, and how many vectors of units the body works on."""

    fma: int = 0
    add: int = 0
    other: int = 0
    div: int = 0
    move: int = 0
    vectors: int = 1


# Counted with objdump, as GCC 12 compiles the loops for gamma 2 and segment maps or targets of 0 and 1.
LOOPS = {
    "avx2": {
        "matching_cost": Loop(22, 4, 13, 1, 2),
        "mask_loss": Loop(132, 16, 86, 4, 79, vectors=4),
        "focal": Loop(42, 4, 30, 2, 3),
        "dice": Loop(21, 6, 13, 2, 7),
        "point": Loop(18 + 4 + 4, 2, 16, 1, 6),
        "taps": Loop(16, 0, 4, 0, 0, vectors=16),
        "candidates": Loop(12, 6, 54, 0, 10),
        "scan": Loop(0, 0, 28, 0, 6),
    },
    "avx512": {
        "matching_cost": Loop(22, 4, 10, 1, 5),
        "mask_loss": Loop(132, 16, 73, 4, 54, vectors=4),
        "focal": Loop(42, 4, 23, 2, 13),
        "dice": Loop(21, 6, 12, 2, 8),
        "point": Loop(18 + 4 + 4, 2, 11, 1, 10),
        "taps": Loop(8, 0, 4, 0, 0, vectors=8),
        "candidates": Loop(12, 6, 46, 0, 24),
        "scan": Loop(0, 0, 32, 0, 8),
    },
}


def cpu_seconds(call: Callable[[], Any], seconds: float = 0.6) -> float:
    """Return the median CPU time of a call on this thread, after two calls that do not count."""
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 7 or time.perf_counter() - begin < seconds:
        before = time.thread_time()
        call()
        times.append(time.thread_time() - before)
    return statistics.median(times[2:])


def _assembly(loop: Loop, lanes: int) -> str:
    """Write a C function that runs the loop's instructions n times, spread evenly and independent of each other."""
    vector = {8: "ymm", 16: "zmm"}[lanes]
    lines = []
    for kind, texts in _KINDS.items():
        count = getattr(loop, kind)
        lines += [((i + 0.5) / count, texts[i % len(texts)]) for i in range(count)]
    repeats = max(1, 60 // len(lines))
    body = [text for _, text in sorted(lines)] * repeats
    spread = "\\n ".join(text.format(v=vector, to=i % 14) for i, text in enumerate(body))
    ones = f"vbroadcastss (%1), %%{vector}14\\n vmovaps %%{vector}14, %%{vector}15\\n "
    clobbers = ", ".join(f'"xmm{i}"' for i in range(16))
    return (
        "void run(long n) { static float ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};\n"
        f'n = n / {repeats} + 1; asm volatile("{ones}1: {spread}\\n dec %0\\n jnz 1b\\n vzeroupper"'
        f' : "+r"(n) : "r"(ones) : {clobbers}, "memory", "cc"); }}\n'
    )


@cache
def loop_seconds(loop: Loop, lanes: int) -> float:
    """Measure how long the loop's instructions take where none waits for another, in seconds per unit."""
    flag = {8: "-mavx2", 16: "-mavx512f"}[lanes]
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "loop.c"), Path(folder, "loop.so")
        source.write_text(_assembly(loop, lanes))
        subprocess.run(["cc", "-O1", flag, "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
        run = ctypes.CDLL(str(library)).run
        run.argtypes = [ctypes.c_long]
        n = 100_000
        fastest = min(cpu_seconds(lambda: run(n), 0.05) for _ in range(3))
    return fastest / n / (lanes * loop.vectors)


def flop_rate(lanes: int) -> float:
    """Measure multiplications plus additions per second, of fused ones in registers."""
    return 2 * 48 / loop_seconds(Loop(fma=48), lanes)


def copy_rate() -> float:
    """Measure bytes read plus bytes written per second, of a copy that no cache holds."""
    source = torch.ones(32 << 20)
    target = torch.empty_like(source)
    return 2 * source.nbytes / cpu_seconds(lambda: target.copy_(source))


class Row(NamedTuple):
    """A line of the table: a benchmark's case, its units, and what they need."""

    case: str
    parameters: dict[str, Any]
    units: float = 0  # that the loop works on, in all
    loop: str = ""
    flop: float = 0
    bytes: float = 0


PIXELS = 512 * 512
SCANS = 526072  # of the searches of the congested problems below, counted by a copy of the method in Python
ROWS = (
    Row("mask_dot", {"activation": "sigmoid"}, flop=1.68e9),
    Row("matching_cost_from_embeddings", {}, 1200 * 128**2, "matching_cost", flop=10.07e9),
    Row("matching_cost", {"targets": "segment_map"}, 200 * 128**2, "matching_cost"),
    Row("mask_loss", {"masks": 20}, 20 * PIXELS, "mask_loss"),
    Row("sigmoid_focal_loss", {}, 20 * PIXELS, "focal"),
    Row("sigmoid_focal_loss", {}, bytes=28 * 20 * PIXELS),
    Row("dice_loss", {}, 20 * PIXELS, "dice"),
    Row("dice_loss", {}, bytes=20 * 20 * PIXELS),
    Row("point_matching_cost", {"targets": "segment_map"}, 2000 * 12544, "point"),
    Row("ms_deform_attn", {"backward": False}, 2 * 5376 * 8 * 12 * 4 * 32, "taps"),
    Row("uncertain_points", {"masks": 40}, 40 * 37632, "candidates"),
    Row(
        "linear_sum_assignment",
        {"problems": 16, "queries": 300, "targets": 300, "costs": "congested"},
        SCANS * 300,
        "scan",
    ),
    Row("attention_mask", {"level": 64}, flop=2 * 2 * 100 * 256 * 64**2, bytes=2 * 256 * 128**2 * 4),
)


def bound(row: Row, lanes: int, loops: dict[str, Loop], bytes_per_second: float) -> float:
    """Return the seconds of a row's bytes, multiply-adds and instructions, one after the other."""
    seconds = row.flop / flop_rate(lanes) + row.bytes / bytes_per_second
    return seconds + (row.units * loop_seconds(loops[row.loop], lanes) if row.loop else 0.0)


def main() -> None:
    """Print the limits of the processor, and each kernel's time beside its bound."""
    torch.set_num_threads(1)
    name = instruction_set()
    if name not in LANES:
        raise SystemExit("bounds are known for AVX2 and AVX-512 only")
    lanes, rate = LANES[name], copy_rate()
    print(
        f"{processor()}, one thread: {flop_rate(lanes) / 1e9:.0f} GFLOP/s in registers, copies of {rate / 1e9:.1f} GB/s"
    )
    print("| kernel | bound by | at the bound, ms | measured, ms | of the bound |\n|---|---|---|---|---|")
    for row in ROWS:
        case = build(f"benchmarks.bench_{row.case}", {"device": "cpu", **row.parameters})
        least, measured = bound(row, lanes, LOOPS[name], rate), cpu_seconds(case.ours)
        by = " and ".join(
            word for word, what in (("products", row.flop), ("bytes", row.bytes), ("instructions", row.loop)) if what
        )
        print(f"| {case.op}, {case.title} | {by} | {least * 1e3:.2f} | {measured * 1e3:.2f} | {least / measured:.0%} |")


if __name__ == "__main__":
    main()
