"""Write records of benchmarks as a table: `python -m benchmarks.report [FILE ...]`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
HEADER = ("benchmark", "peer", "ours", "peer's", "ratio", "default allocator", "extra memory", "share", "error")


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"


def _size(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def _ratio(ours: float, peer: float) -> str:
    return f"{peer / ours:.2f}x" if ours else "-"


def caveats(record: dict[str, Any]) -> str:
    """Return the reasons not to quote a record's figure, in brackets, or "" where it may be quoted."""
    found = ""
    if record["implementation"] != "native":
        found += " [PyTorch reference, not the kernel]"
    if not record["steady_state"]:
        found += " [not in steady state]"
    if record["load"] > record["cores"] + 1:  # one more than this process can cause itself
        found += f" [busy machine, load {record['load']:.0f}: not to be quoted]"
    return found


def _title(record: dict[str, Any]) -> str:
    """Return the name of the benchmark, with its caveats and how often it waits for the GPU."""
    waits = record.get("host_syncs")
    count = {1: " [waits for the GPU once]"}.get(waits, f" [waits for the GPU {waits} times]") if waits else ""
    return f"{record['op']}: {record['title']}{caveats(record)}{count}"


def rows(record: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return one row of the table per peer of a record."""
    calls = record["calls"]
    ours = calls["ours"]
    found: list[tuple[str, ...]] = []
    own_memory = _size(ours["memory"]["extra"]) if "memory" in ours else "-"
    without = {name: f"above {_size(size)}" for name, size in record.get("too_large", {}).items()}
    if len(calls) == 1 and not without:  # no peer can run this, or none is installed
        without = {record.get("no_peer", "none fits into memory"): "-"}
    for name, size in without.items():
        sizes = own_memory if size == "-" else f"{own_memory} / {size}"
        found.append((_title(record), name, _time(ours["median"]), "-", "-", "-", sizes, "-", "-"))
    for name, peer in calls.items():
        if name == "ours":
            continue
        default = memory = share = "-"
        if "default_allocator" in peer:
            ours_time, peer_time = ours["default_allocator"]["median"], peer["default_allocator"]["median"]
            default = f"{_time(ours_time)} / {_time(peer_time)} = {_ratio(ours_time, peer_time)}"
        if "memory" in peer:
            ours_size, peer_size = ours["memory"]["extra"], peer["memory"]["extra"]
            memory = f"{_size(ours_size)} / {_size(peer_size)}"
            share = f"{100 * ours_size / peer_size:.1f}%" if peer_size > 1e6 else "-"
        times = (_time(ours["median"]), _time(peer["median"]), _ratio(ours["median"], peer["median"]))
        found.append((_title(record), name, *times, default, memory, share, f"{peer['error']:.0e}"))
    return found


def aligned(lines: list[tuple[str, ...]]) -> str:
    """Write a heading and rows as a Markdown table whose columns are aligned in plain text too."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def table(records: list[dict[str, Any]]) -> str:
    """Write records as a Markdown table."""
    return aligned([HEADER, *(row for record in records for row in rows(record))])


def machine_line(record: dict[str, Any]) -> str:
    """Describe in one line where a record was taken."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"{record['device']}, {record['threads']} threads, {record['date'][:10]}; {versions}"


def latest(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the newest record of each benchmark, in the order of first appearance."""
    newest = {(record["op"], record["title"], record["threads"]): record for record in records}
    return list(newest.values())


def path_of(device: str) -> Path:
    """Return the file that holds the records of a device: the name of a GPU, or `cpu` and an instruction set."""
    return RESULTS / f"{re.sub(r'[^a-z0-9.]+', '-', device.lower()).strip('-')}.json"


def path_of_record(record: dict[str, Any]) -> Path:
    """Return the file that a record belongs to. All processors of one instruction set share a file."""
    return path_of(f"cpu-{record['instruction_set']}" if "instruction_set" in record else record["device"])


def read(path: Path) -> list[dict[str, Any]]:
    """Read the records of a file: a plain list, or the part `records` of what `make gpu-check` writes."""
    content = json.loads(path.read_text())
    return content if isinstance(content, list) else content["records"]


def append(record: dict[str, Any], path: Path) -> None:
    """Add a record to a file of either form (see `read`)."""
    content = json.loads(path.read_text()) if path.exists() else []
    (content if isinstance(content, list) else content["records"]).append(record)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def main(arguments: list[str]) -> None:
    """Print the table of each named file, or of all in `benchmarks/results/`."""
    for path in [Path(name) for name in arguments] or sorted(
        set(RESULTS.glob("*.json")) - set(RESULTS.glob("scaling-*"))
    ):
        records = latest(read(path))
        if records:
            print(f"{machine_line(records[-1])}\n\n{table(records)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
