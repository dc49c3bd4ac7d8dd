"""Report on the CUDA kernels without a GPU: registers and spills, and the costs of their hottest loops.

It compiles the sources, or those that are named, with nvcc. ptxas tells registers, shared memory, stack and spills for
every architecture. The machine code tells the rest, and cuobjdump reads it:

- the blocks that a processor holds of each kernel, by those that `__launch_bounds__` promises
- the instructions of its costliest innermost loop, and the calls that its loops cannot avoid
- the hottest loops of each op: instructions per unit of work, by pipe
- from these counts for sm_90 the floors and estimates for two GPUs. They are not measurements.

tools/sass/work.py declares what a unit is. `--check` fails where a kernel spills, or where a loop costs more than
tools/cuda_counts.json accepts. That is a quarter more instructions, more calls, or fewer blocks per processor than
`__launch_bounds__` promises. Half the instructions fail as well, since the file is out of date then.

`--accept` writes that file and the tables of docs/kernels/README.md.

`--built` compiles nothing that is up to date in build/. It reads what ptxas reported when the CUDA library was built,
for the architectures of that build. Other sources are compiled for one architecture. `--json` prints the counts.

`--loops FILE...` lists every loop of each kernel in sources, objects or cubins. `--mark MUFU.EX2` counts per
instruction of that kind. `--avoid MUFU.LG2` leaves out ways through a loop that meet such an instruction. `--select`
takes the way with the `fewest` instructions, the fewest for `each` marker, or the `most` markers. `--kernel` limits the
list by a part of the name.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sass import binaries, tables
from sass.count import Count, count, find
from sass.loop_list import loop_list, summary
from sass.path import EACH, FEWEST, MOST
from sass.ptxas import Usage, parse, usage_table
from sass.work import Stage, stages

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURES = (80, 90, 100, 120)
COUNTED = 90  # whose machine code is read
_NO_NVCC = "no nvcc was found in CUDA_HOME, in CUDA_PATH or on PATH"


def find_nvcc() -> str | None:
    """Find nvcc as the build does: in CUDA_HOME, in CUDA_PATH, on PATH or in the usual place."""
    return binaries.find_program("nvcc")


def read_source(source: Path, built: bool, cuobjdump: str | None) -> tuple[list[Usage], list[binaries.Kernel]]:
    """Return what ptxas says of a source's kernels, and their machine code where cuobjdump was found.

    Raises:
        SystemExit: if the source does not compile, or must be compiled without nvcc.
    """
    compiled = binaries.built_object(source) if built else None
    if compiled is not None:
        usage = parse(binaries.ptxas_log(compiled).read_text())
        if any(kernel.architecture == COUNTED for kernel in usage):
            return usage, binaries.read_kernels(cuobjdump, compiled) if cuobjdump else []
    nvcc = find_nvcc()
    if nvcc is None:
        raise SystemExit(f"cuda_report: {_NO_NVCC}")
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernels.fatbin"
        text = binaries.compile_kernels(nvcc, source, (COUNTED,) if built else ARCHITECTURES, binary)
        return parse(text), binaries.read_kernels(cuobjdump, binary) if cuobjdump else []


def count_stage(stage: Stage, kernels: Sequence[binaries.Kernel], architecture: int) -> Count | None:
    """Count a stage's loop, in the instance of its kernel that needs the fewest instructions."""
    counts = [count(stage, kernel) for kernel in find(stage, kernels, architecture)]
    return min((one for one in counts if one), key=lambda one: one.instructions, default=None)


def print_loops(path: Path, options: argparse.Namespace) -> None:
    """Print the loops of the kernels in a source, an object or a cubin."""
    cuobjdump = binaries.find_program("cuobjdump")
    if cuobjdump is None:
        raise SystemExit(f"cuda_report: {binaries.NO_CUOBJDUMP}")
    with tempfile.TemporaryDirectory() as folder:
        if path.suffix == ".cu":
            nvcc, source = find_nvcc(), path
            if nvcc is None:
                raise SystemExit(f"cuda_report: {_NO_NVCC}")
            path = Path(folder) / "kernels.fatbin"
            binaries.compile_kernels(nvcc, source, (COUNTED,), path)
        kernels = binaries.read_kernels(cuobjdump, path)
    for kernel in kernels:
        if options.kernel in kernel.name:
            print("\n".join(loop_list(kernel, options.mark, options.avoid, options.select)))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("check", "built", "accept", "json", "loops"):
        parser.add_argument(f"--{flag}", action="store_true")
    for option in ("mark", "avoid", "kernel"):
        parser.add_argument(f"--{option}", default="")
    parser.add_argument("--select", choices=(FEWEST, EACH, MOST), default=FEWEST)
    parser.add_argument("sources", nargs="*", type=Path)
    return parser.parse_args()


def regressions(counts: dict[tuple[int, str], Count], sources: Sequence[Path]) -> list[str]:
    """Say which loops cost more than accepted, of the ops whose sources were all read."""
    accepted, wrong = tables.read_counts(), []
    for stage in stages():
        if set(sources).issuperset((ROOT / "csrc" / stage.folder).glob("*.cu")):
            wrong += tables.changes(stage, counts.get((COUNTED, stage.name)), accepted.get(stage.name))
    return wrong


def main() -> int:
    """Print the tables. Return 1 without the programs that are needed, or where `--check` finds something."""
    options = arguments()
    if options.loops:
        for path in options.sources:
            print_loops(path, options)
        return 0
    if find_nvcc() is None:
        print(f"cuda_report: {_NO_NVCC}", file=sys.stderr)
        return 1
    cuobjdump = binaries.find_program("cuobjdump")
    if cuobjdump is None:
        print(f"cuda_report: {binaries.NO_CUOBJDUMP}", file=sys.stderr)
        if options.accept or options.json:
            return 1
    sources = [path.resolve() for path in options.sources] or sorted(ROOT.glob("csrc/*/*.cu"))
    wrong: list[str] = []
    counts: dict[tuple[int, str], Count] = {}
    for source in sources:
        usage, kernels = read_source(source, options.built, cuobjdump)
        if not options.json:
            facts = {} if options.check else {(one.name, one.architecture): summary(one) for one in kernels}
            print(f"== {source.relative_to(ROOT)}", *usage_table(usage, facts), sep="\n")
        wrong += [f"{one.name} spills {one.spills} bytes for sm_{one.architecture}" for one in usage if one.spills]
        for stage in (one for one in stages() if one.folder == source.parent.name):
            found = (count_stage(stage, kernels, architecture) for architecture in ARCHITECTURES)
            counts.update({(one.architecture, stage.name): one for one in found if one is not None})
    order = [stage.name for stage in stages()]
    in_order = sorted(counts.values(), key=lambda one: (one.architecture, order.index(one.stage)))
    counted = {one.stage: one for one in in_order if one.architecture == COUNTED}
    if options.json:
        print(tables.to_json(in_order), end="")
    elif counts:
        print(*tables.loop_tables(in_order), *tables.estimate_tables(counted), sep="\n")
    if options.accept:
        tables.accept(counted, order)
    if options.check and cuobjdump:
        wrong += regressions(counts, sources)
    if options.check and wrong:
        print("cuda_report: other than accepted:", *wrong, sep="\n  ", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
