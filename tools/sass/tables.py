"""Writes counts and estimates as tables, for a terminal and for docs/kernels/README.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from sass.binaries import ROOT
from sass.count import Count
from sass.estimate import Estimate, estimate
from sass.machines import MACHINES
from sass.pipes import PIPES
from sass.work import WORKS, Stage, stages

COUNTS = ROOT / "tools" / "cuda_counts.json"
PAGE = ROOT / "docs" / "kernels" / "README.md"
MARKERS = "<!-- cuda_report: begin -->", "<!-- cuda_report: end -->"
_HEADS = dict(zip(PIPES, ("FMA", "ALU", "MUFU", "FP64", "tens", "smem", "mem", "ctrl", "unif"), strict=True))


def loop_tables(counts: Sequence[Count]) -> list[str]:
    """Return the lines of a table of hottest loops for each architecture, 120 columns at most."""
    lines: list[str] = []
    heads = " ".join(f"{_HEADS[pipe]:>5}" for pipe in PIPES)
    for architecture in sorted({count.architecture for count in counts}):
        title = f"sm_{architecture}: hottest loops"
        lines += ["", f"{title:<29} {'all':>6} {heads} {'calls':>5} {'use':>4} {'clocks':>6} {'regs':>4} blocks"]
        for count in (one for one in counts if one.architecture == architecture):
            pipes = " ".join(f"{_number(count.pipes.get(pipe, 0.0)):>5}" for pipe in PIPES)
            use, blocks = count.distance if count.loads else "-", f"{count.resident(architecture)}/{count.promised}"
            lines.append(
                f"{count.stage:<29} {count.instructions:6.1f} {pipes} {count.calls:5} {use:>4} {count.clocks:6.0f} "
                f"{count.registers:4} {blocks:>6}"
            )
    return [*lines, ""]


def estimate_tables(counts: Mapping[str, Count]) -> list[str]:
    """Return the lines of a table for each GPU: floors and estimates, in milliseconds."""
    lines: list[str] = []
    for machine in MACHINES:
        title = f"{machine.name}: estimates, ms (not measured)"
        heads = " ".join(f"{head:>6}" for head in ("bytes", "spec.", "arith.", "issue"))
        lines += [*([""] if lines else []), f"{title:<62} {heads} {'estimate':>15}  bound by"]
        for work in WORKS:
            one = estimate(work, counts, machine)
            if one is not None:
                times = " ".join(f"{ms(time):>6}" for time in (one.bytes, one.special, one.arithmetic, one.issue))
                title = work.title.replace("`", "")
                lines.append(f"{title:<62.62} {times} {_span(one):>15}  {one.bound}")
    return lines


def page_tables(counts: Mapping[str, Count]) -> str:
    """Return what docs/kernels/README.md shows between its markers."""
    names = [machine.name for machine in MACHINES]
    heads = [f"{name}: floors | all instructions | estimate, bound by" for name in names]
    lines = ["| kernel and size | " + " | ".join(heads) + " |", "|---" * (1 + 3 * len(names)) + "|"]
    for work in WORKS:
        cells = []
        for machine in MACHINES:
            one = estimate(work, counts, machine)
            if one is not None:
                floors = " / ".join(ms(time) for time in (one.bytes, one.special, one.arithmetic))
                cells.append(f"{floors} | {ms(one.issue)} | {_span(one)}, {one.bound}")
        if cells:
            lines.append(f"| {work.title} | " + " | ".join(cells) + " |")
    lines += ["", "The counts for sm_90 behind them, per unit of work:", ""]
    lines.append("| loop | unit | instructions | FMA / ALU / special / memory | registers | blocks per processor |")
    lines.append("|---|---|---|---|---|---|")
    units = {stage.name: stage.unit for stage in stages()}
    for count in counts.values():
        pipes = count.pipes
        memory = pipes.get("memory", 0.0) + pipes.get("shared", 0.0)
        parts = " / ".join(_number(part) for part in (*(pipes.get(name, 0.0) for name in PIPES[:3]), memory))
        lines.append(
            f"| {count.stage} | {units.get(count.stage, '')} | {_number(count.instructions)} | "
            f"{parts} | {count.registers} | {count.resident(count.architecture)} |"
        )
    return "\n".join(lines)


def accept(counts: Mapping[str, Count], order: Sequence[str], path: Path = COUNTS, page: Path = PAGE) -> None:
    """Write counts, and the page's tables from all of them. Those of stages that were not counted now stay."""
    kept = read_counts(path) if path.exists() else {}
    known = {**kept, **counts}
    path.write_text(to_json([known[name] for name in order if name in known]))
    text = page.read_text()
    before, rest = text.split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    page.write_text(f"{before}{MARKERS[0]}\n\n{page_tables(read_counts(path))}\n\n{MARKERS[1]}{after}")


def page_section(page: Path = PAGE) -> str:
    """Return what stands between the page's markers."""
    return page.read_text().split(MARKERS[0])[1].split(MARKERS[1])[0].strip()


def to_json(counts: Sequence[Count]) -> str:
    """Return counts as JSON, one stage a line, rounded and without what differs from one compilation to the next."""
    lines = []
    for count in counts:
        plain = {name: _rounded(value) for name, value in asdict(count).items() if name != "address"}
        lines.append(json.dumps(plain))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def read_counts(path: Path = COUNTS) -> dict[str, Count]:
    """Read the counts that were accepted, by stage."""
    known = {one.name for one in fields(Count)}
    read = [{key: value for key, value in one.items() if key in known} for one in json.loads(path.read_text())]
    return {one["stage"]: Count(**one) for one in read}


def changes(stage: Stage, new: Count | None, accepted: Count | None) -> list[str]:
    """Say what became worse than accepted: instructions by a quarter, calls, or fewer blocks than were promised.

    Half the instructions are told too. Either the tables are out of date, or the marker is in another loop now.
    """
    if accepted is None:
        return [f"{stage.name}: there is no accepted count"]
    if new is None:
        return [f"{stage.name}: no loop of {stage.kernel} has its marker {stage.marker}; see tools/sass/work.py"]
    found = []
    if not 0.5 * accepted.instructions <= new.instructions <= 1.25 * accepted.instructions:
        found.append(
            f"{stage.name}: {new.instructions:.1f} instructions per {stage.unit}, {accepted.instructions:.1f} accepted"
        )
    if new.calls > accepted.calls:
        found.append(f"{stage.name}: {new.calls} calls in the loop, {accepted.calls} accepted")
    here = new.resident(new.architecture)
    if here < new.promised:
        found.append(f"{stage.name}: {here} blocks per processor, __launch_bounds__ promises {new.promised}")
    return found


def ms(seconds: float) -> str:
    """Return milliseconds with two digits that count."""
    time = seconds * 1e3
    return "0" if time < 0.0005 else f"{time:.3f}" if time < 0.02 else f"{time:.2f}" if time < 2 else f"{time:.1f}"


def _span(one: Estimate) -> str:
    low, high = ms(one.low), ms(one.high)
    return low if low == high else f"{low} to {high}"


def _number(value: float) -> str:
    return "-" if value < 0.005 else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in sorted(value.items())}
    return round(value, 3) if isinstance(value, float) else value
