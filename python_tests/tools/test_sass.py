"""How tools/sass reads machine code: a recorded listing of small kernels, so that no compiler is needed."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tools"))
from sass import binaries, tables, work  # noqa: E402
from sass.count import Count, count  # noqa: E402
from sass.estimate import estimate  # noqa: E402
from sass.listing import Function, parse  # noqa: E402
from sass.loop_list import summary  # noqa: E402
from sass.loops import blocks_of, loops_of  # noqa: E402
from sass.machines import H100, MACHINES, RTX_4090  # noqa: E402
from sass.occupancy import resident_blocks  # noqa: E402
from sass.path import EACH, FEWEST, MOST, way_round  # noqa: E402
from sass.ptxas import Usage, usage_table  # noqa: E402
from sass.waits import L2, MEMORY, clocks_round, load_distance  # noqa: E402
from sass.work import Part, Stage, Work  # noqa: E402

LISTING = HERE / "sass" / "sums.sass"  # of sums.cu beside it, for sm_90
SIGMOIDS = Stage("sums", "sums", "plain_kernel", "element", r"MUFU\.EX2", select=EACH, special=2, fma=2)
USAGE = """
arch = sm_90
 Function plain_kernel:
  REG:12 STACK:0 SHARED:1056 LOCAL:0 CONSTANT[0]:548
arch = sm_80
 Function plain_kernel:
  REG:10 STACK:0 SHARED:32 LOCAL:0 CONSTANT[0]:548
"""
PTX = """
.visible .entry plain_kernel(
.param .u64 a
)
.maxntid 128, 1, 1
.minnctapersm 4
{
.visible .entry other_kernel(
.maxntid 64
"""


@pytest.fixture(scope="module")
def functions() -> dict[str, Function]:
    return {re.sub(r"^_Z\d+|PK.*$", "", one.name): one for one in parse(LISTING.read_text())}


def counted(functions: dict[str, Function], name: str, stage: Stage = SIGMOIDS) -> Count:
    kernel = binaries.Kernel(name, functions[name], registers=32, threads=128, promised=4)
    found = count(stage, kernel)
    assert found is not None
    return found


def test_a_listing_is_read_with_what_each_instruction_waits_for(functions) -> None:
    assert set(functions) == {"nested_kernel", "doubled_kernel", "unrolled_kernel", "plain_kernel"}
    plain = functions["plain_kernel"]
    assert plain.architecture == 90
    code = {one.address: one for one in plain.instructions}
    load, product, back = code[0xF0], code[0x130], code[0x1C0]
    assert (load.opcode, load.name, load.has("LDG")) == ("LDG.E", "LDG", True)
    assert load.sets is not None and load.sets in product.waits
    assert (back.name, back.guard, back.target) == ("BRA", "!P0", 0xE0)


def test_loops_are_found_with_those_inside(functions) -> None:
    outer, inner = loops_of(blocks_of(functions["nested_kernel"]))
    assert (outer.depth, inner.depth) == (1, 2) and inner.outer is outer and outer.inner == [inner]
    assert inner.blocks < outer.blocks
    assert len(loops_of(blocks_of(functions["unrolled_kernel"]))) == 2, "the unrolled one and the rest"
    assert len(loops_of(blocks_of(functions["plain_kernel"]))) == 1, "padding behind the end is none"


def test_a_jump_by_a_table_leads_to_what_nothing_else_does() -> None:
    code = ["MOV R1, 0x0", "BRX R2 -0x20", "FADD R3, R3, R3", "BRA 0x60", "BRA.DIV UR4, 0x80", "FMUL R3, R3, R3"]
    code += ["@P0 BRA 0x10", "EXIT", "WARPSYNC.COLLECTIVE R1, 0x50", "BRA 0x50"]
    lines = [f"/*{16 * i:04x}*/ {text} ; /* 0x0000000000000000 */" for i, text in enumerate(code)]
    (function,) = parse("\n".join(["code for sm_90", "Function : f", *lines]))
    blocks = blocks_of(function)
    (loop,) = loops_of(blocks)
    inside = {one.address for i in loop.blocks for one in blocks[i].instructions}
    assert inside == set(range(0x10, 0x70, 0x10)), "both cases, and not the lanes that part"
    product = way_round(blocks, loop, lambda one: one.has("FMUL"))
    assert product is not None and [one.name for one in product.instructions] == ["BRX", "BRA", "FMUL", "BRA"]


def test_the_way_round_a_loop_leaves_rare_branches_out(functions) -> None:
    blocks = blocks_of(functions["nested_kernel"])
    outer, inner = loops_of(blocks)
    # By address: 0x140 to 0x190, then the end of the branch at 0x2f0 and 0x300 to 0x320.
    shortest = way_round(blocks, inner)
    assert shortest is not None and len(shortest.instructions) == 10
    added = way_round(blocks, inner, lambda one: one.has("DADD"))
    assert added is not None and not any(one.name in {"CALL", "MUFU"} for one in added.instructions)
    divided = way_round(blocks, inner, lambda one: one.has("MUFU.RCP"), select=MOST)
    assert divided is not None and divided.marks == 1 and not any(one.name == "CALL" for one in divided.instructions)
    assert way_round(blocks, inner, lambda one: one.has("MUFU.EX2")) is None
    assert way_round(blocks, inner, lambda one: one.has("DADD"), avoid=lambda one: one.has("F2F")) is None
    around = way_round(blocks, outer, through=inner)
    assert around is not None and any(one.name == "STG" for one in around.instructions)
    assert not any(one.name == "DADD" for one in around.instructions), "the inner loop is counted by itself"


def test_a_call_counts_with_what_it_runs(functions) -> None:
    blocks = blocks_of(functions["nested_kernel"])
    inner = loops_of(blocks)[1]
    way = way_round(blocks, inner, lambda one: one.has("CALL"))
    assert way is not None
    names = [one.name for one in way.instructions]
    assert names.index("CALL") < names.index("RET") and len(names) == 40


def test_unrolling_changes_no_count_by_much_and_units_follow_from_markers(functions) -> None:
    plain, unrolled = counted(functions, "plain_kernel"), counted(functions, "unrolled_kernel")
    assert (plain.units, unrolled.units) == (1, 4)
    assert plain.instructions == 15 and 8 < unrolled.instructions < 12
    assert plain.pipes["MUFU"] == unrolled.pipes["MUFU"] == 2
    assert sum(plain.pipes.values()) == plain.instructions


def test_a_loop_that_doubled_is_seen(functions) -> None:
    plain, doubled = counted(functions, "plain_kernel"), counted(functions, "doubled_kernel")
    assert tables.changes(SIGMOIDS, plain, plain) == []
    (change,) = tables.changes(SIGMOIDS, doubled, plain)
    assert "34.0 instructions per element, 15.0 accepted" in change
    assert tables.changes(SIGMOIDS, replace(plain, instructions=18.0), plain) == []
    (change,) = tables.changes(SIGMOIDS, plain, doubled)
    assert "15.0 instructions per element, 34.0 accepted" in change, "a count that is out of date"
    assert "1 calls" in tables.changes(SIGMOIDS, replace(plain, calls=1), plain)[0]
    assert "4 blocks per processor, __launch_bounds__ promises 8" in "".join(
        tables.changes(SIGMOIDS, replace(plain, registers=128, promised=8), plain)
    )
    assert "MUFU" in tables.changes(SIGMOIDS, None, plain)[0], "a marker that is gone"


def test_the_enclosing_loop_adds_its_share(functions) -> None:
    alone = Stage("nested", "sums", "nested_kernel", "element", "DADD", select=FEWEST)
    inner = counted(functions, "nested_kernel", alone)
    shared = counted(functions, "nested_kernel", replace(alone, outer=16))
    assert 0.5 < shared.instructions - inner.instructions < 2
    assert shared.pipes["FP64"] == 1


def test_waits_follow_the_latency_of_loads(functions) -> None:
    blocks = blocks_of(functions["plain_kernel"])
    way = way_round(blocks, loops_of(blocks)[0])
    assert way is not None
    near, far = clocks_round(way.instructions, L2), clocks_round(way.instructions, MEMORY)
    assert far - near == MEMORY - L2 and near > L2 + 2 * 20, "one load, then two special functions"
    distance = load_distance(way.instructions)
    assert (distance.loads, distance.rounds, distance.least) == (1, 1, 4)


@pytest.mark.parametrize(
    ("capability", "threads", "registers", "shared", "blocks"),
    [
        (90, 128, 128, 10272, 4),
        (90, 256, 32, 0, 8),
        (90, 256, 255, 0, 1),
        (90, 32, 16, 0, 32),
        (90, 256, 40, 100 << 10, 2),
        (89, 256, 32, 0, 6),
        (89, 128, 40, 49152, 2),
        (80, 1024, 64, 0, 1),
    ],
)
def test_blocks_per_processor(capability, threads, registers, shared, blocks) -> None:
    """As NVIDIA's occupancy calculator has them."""
    assert resident_blocks(capability, threads, registers, shared) == blocks


def test_registers_shared_memory_and_launch_bounds_are_read(functions) -> None:
    kernels = {
        ("plain_kernel", architecture): binaries.Kernel("plain_kernel", Function("plain_kernel", architecture))
        for architecture in (80, 90)
    }
    binaries.read_usage(kernels, USAGE)
    binaries.read_bounds(kernels, PTX)
    read = [(one.registers, one.shared, one.threads, one.promised) for one in kernels.values()]
    assert read == [(10, 32, 128, 4), (12, 32, 128, 4)], "the reserved kilobyte of sm_90 is no shared memory"


def test_floors_and_estimates_are_arithmetic(functions) -> None:
    plain = counted(functions, "plain_kernel")
    units = 32e9
    one = estimate(Work("sums", (Part(SIGMOIDS, units),), bytes=3.35e9), {"sums": plain}, H100)
    assert one is not None
    clocks = 132 * 1.7e9
    assert one.bytes == pytest.approx(1e-3)
    assert one.special == pytest.approx(units * 2 / 16 / clocks)
    assert one.issue == pytest.approx(units / 32 * 15 / 4 / clocks)
    assert one.low >= max(one.bytes, one.special, one.issue) and one.high > one.low
    assert estimate(Work("sums", (Part(SIGMOIDS, 1),), bytes=0), {}, H100) is None


def test_a_chain_takes_its_turns_and_slow_doubles(functions) -> None:
    stage = replace(SIGMOIDS, per_warp=True)
    plain = replace(counted(functions, "plain_kernel"), clocks=100.0, busy={"FP64": 10.0})
    work = Work("chain", (Part(stage, 17000, blocks=10),), bytes=0)
    fast, slow = (estimate(work, {"sums": plain}, machine) for machine in (H100, RTX_4090))
    assert fast is not None and slow is not None and fast.bound == "chain"
    assert fast.low == pytest.approx(17000 * (100 + 10 * 2) / 1.7e9)
    assert slow.low == pytest.approx(17000 * (100 + 10 * 64) / 2.5e9)


def test_every_declared_loop_is_accepted_and_every_work_estimated() -> None:
    accepted = tables.read_counts()
    assert list(accepted) == [stage.name for stage in work.stages()]
    assert len({stage.name for stage in work.stages()}) == len(work.stages())
    for stage in work.stages():
        assert list((tables.ROOT / "csrc" / stage.folder).glob("*.cu"))
        assert re.match(stage.kernel, accepted[stage.name].kernel)
    assert all(estimate(one, accepted, machine) for one in work.WORKS for machine in MACHINES)


def test_the_page_shows_what_was_accepted() -> None:
    assert tables.page_section() == tables.page_tables(tables.read_counts()), "run tools/cuda_report.py --accept"


def test_accepting_writes_counts_and_page_and_keeps_the_rest(functions, tmp_path) -> None:
    counts, page = tmp_path / "counts.json", tmp_path / "page.md"
    page.write_text("before\n" + "\n".join(tables.MARKERS) + "\nafter\n")
    old, new = counted(functions, "plain_kernel"), counted(functions, "doubled_kernel")
    order = ["first", "sums"]
    tables.accept({"sums": old, "first": replace(old, stage="first")}, order, counts, page)
    tables.accept({"sums": new}, order, counts, page)
    read = tables.read_counts(counts)
    assert [one.instructions for one in read.values()] == [old.instructions, new.instructions]
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "| sums |" in text


def test_a_kernel_has_its_facts_on_one_line(functions) -> None:
    kernel = binaries.Kernel("nested_kernel", functions["nested_kernel"], registers=64, threads=256, promised=5)
    blocks, loop, calls = summary(kernel)
    assert (blocks, loop, calls) == ("4/5", "10", "-"), "a call that a branch avoids does not count"
    lines = usage_table([Usage("nested_kernel", 90, registers=64)], {("nested_kernel", 90): (blocks, loop, calls)})
    assert lines[-1].split() == ["nested_kernel", "90", "64", "0", "0", "0", "4/5", "10", "-"]


def test_tables_fit_a_terminal() -> None:
    accepted = tables.read_counts()
    lines = [*tables.loop_tables(list(accepted.values())), *tables.estimate_tables(accepted)]
    assert max(map(len, lines)) <= 120 and len(lines) > len(accepted)
