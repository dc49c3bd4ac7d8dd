"""Build, test, sanitize and measure on the GPU of this machine, in one command and below a time limit.

It needs this Python's torch (with CUDA), nvcc, cmake and pytest. Whatever else is absent is skipped with a sentence.
It writes benchmarks/results/<gpu>.json and .md, and a log per stage in build/gpu_check.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gpu_stages import CPU_TESTS, ROOT, STAGES, Outcome, Run, Stage

sys.path.insert(0, str(ROOT))
from benchmarks import report

_TO_END = 10.0  # seconds of the budget for ending the last stage
LOGS = ROOT / "build" / "gpu_check"
_PROBE = """
import json, platform, torch
found = torch.cuda.is_available()
print(json.dumps({
    "name": torch.cuda.get_device_name(), "capability": torch.cuda.get_device_capability(),
    "memory": torch.cuda.get_device_properties(0).total_memory,
    "versions": {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda},
} if found else None))
"""


def allowance(shares: list[float], remaining: float) -> float:
    """Return the seconds of the next stage: its share of what remains.

    What a stage did not use goes to the later ones.

    Args:
        shares: of the next stage and all later ones, in any unit.
        remaining: seconds of the whole budget that are left.
    """
    return max(remaining, 0.0) * shares[0] / sum(shares)


def find_gpu() -> dict[str, Any] | None:
    """Return what torch reports on the GPU in a process of its own, or None without a GPU or torch."""
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True)
    if done.returncode != 0:
        return None
    gpu = json.loads(done.stdout.splitlines()[-1])
    if gpu is not None:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        if shutil.which(query[0]):
            driver = subprocess.run(query, capture_output=True, text=True).stdout.split()
            gpu["versions"] |= {"driver": driver[0]} if driver else {}
    return gpu


def plan(stages: list[Stage], minutes: float) -> str:
    """Return a line per stage: what would run, and its seconds if every earlier stage takes all its time."""
    width = max(len(stage.name) for stage in stages)
    total = sum(stage.share for stage in stages)
    lines = [f"{stage.name:{width}}  {60 * minutes * stage.share / total:4.0f} s  {stage.about}" for stage in stages]
    return "\n".join([f"{minutes:g} minutes in all", *lines])


def run_stage(stage: Stage, gpu: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Run one stage and return its entry in the JSON. Whatever goes wrong is its outcome, and stops no other."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{stage.name}.log"
    log.unlink(missing_ok=True)
    begin = time.monotonic()
    try:
        outcome = stage.call(Run(gpu, log, seconds)) if seconds >= 5 else Outcome("skipped", "no time left")
    except Exception as error:
        outcome = Outcome("failed", f"{type(error).__name__}: {error}")
    return {
        "name": stage.name,
        "status": outcome.status,
        "detail": outcome.detail,
        "seconds": round(time.monotonic() - begin, 1),
        "limit": round(seconds, 1),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        **outcome.facts,
    }


def merged(before: dict[str, Any] | None, gpu: dict[str, Any], stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of the JSON: these stages, earlier ones that did not run again, and the figures.

    Args:
        before: the file's content, or None.
        gpu: what `find_gpu` returned.
        stages: entries of `run_stage`. `records` in an entry names the file of its figures.
    """
    kept = {entry["name"]: entry for entry in (before or {}).get("stages", [])}
    records = list((before or {}).get("records", []))
    for entry in stages:
        figures = Path(entry["records"]) if "records" in entry else None
        if figures is not None and figures.exists():
            records += json.loads(figures.read_text())
        kept[entry["name"]] = {key: value for key, value in entry.items() if key != "records"}
    order = [stage.name for stage in (*STAGES, CPU_TESTS)]
    ordered = sorted(kept.values(), key=lambda entry: order.index(entry["name"]))
    return {"gpu": gpu, "stages": ordered, "records": report.latest(records)}


def summary(stages: list[dict[str, Any]]) -> str:
    """Return the stages as a Markdown table whose columns are aligned in plain text too."""
    lines = [("stage", "result", "seconds", "what came of it")]
    lines += [(entry["name"], entry["status"], f"{entry['seconds']:.0f}", entry["detail"]) for entry in stages]
    return report.aligned([tuple(cell.replace("|", "/") for cell in line) for line in lines])


def page(content: dict[str, Any]) -> str:
    """Return the Markdown page of a JSON's content."""
    gpu = content["gpu"]
    versions = ", ".join(f"{name} {version}" for name, version in gpu["versions"].items())
    dates = sorted(entry["date"][:10] for entry in content["stages"])
    parts = [f"# {gpu['name']}", f"`make gpu-check`, {dates[-1]}; {versions}", summary(content["stages"])]
    if content["records"]:
        parts += [report.machine_line(content["records"][-1]), report.table(content["records"])]
    return "\n\n".join(parts) + "\n"


def write(content: dict[str, Any], out: Path | None) -> list[Path]:
    """Write JSON and page, copy them and the logs to `out`, and return the two paths."""
    path = report.path_of(content["gpu"]["name"])
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    path.with_suffix(".md").write_text(page(content))
    written = [path, path.with_suffix(".md")]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for file in (*written, *sorted(LOGS.glob("*.log"))):
            shutil.copy(file, out)
    return written


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [stage.name for stage in (*STAGES, CPU_TESTS)]
    parser.add_argument("--only", nargs="+", choices=names, metavar="STAGE", help=f"of {', '.join(names)}")
    parser.add_argument("--all-tests", action="store_true", help="last, run the tests that need no GPU too")
    parser.add_argument("--minutes", type=float, default=9.0, help="the stages' budget in all (default 9)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="copy JSON, table and logs there")
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and end")
    return parser.parse_args()


def main() -> int:
    """Run the stages; return 1 if one failed or there is no GPU."""
    begin, options = time.monotonic(), arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what a stage has started ends too
    stages = [*STAGES, CPU_TESTS] if options.all_tests else list(STAGES)
    if options.only:
        stages = [stage for stage in (*STAGES, CPU_TESTS) if stage.name in options.only]
    if options.dry_run:
        print(plan(stages, options.minutes))
        return 0
    gpu = find_gpu()
    if gpu is None:
        print("gpu-check: torch finds no GPU on this machine (see `--dry-run` for what would run)", file=sys.stderr)
        return 1
    path = report.path_of(gpu["name"])
    before = json.loads(path.read_text()) if path.exists() else None
    entries: list[dict[str, Any]] = []
    for index, stage in enumerate(stages):
        remaining = 60 * options.minutes - _TO_END - (time.monotonic() - begin)
        seconds = allowance([later.share for later in stages[index:]], remaining)
        print(f"== {stage.name}: {stage.about}, at most {seconds:.0f} s", flush=True)
        entries.append(run_stage(stage, gpu, seconds))
        print(f"   {entries[-1]['status']}, {entries[-1]['seconds']:.0f} s: {entries[-1]['detail']}", flush=True)
        written = write(merged(before, gpu, entries), options.out)  # after each stage: a killed run keeps the others'
    print(f"\n{page(json.loads(path.read_text()))}")
    if len(entries) < len(json.loads(path.read_text())["stages"]):
        print(f"of which in this run:\n\n{summary(entries)}\n")
    print(f"{', '.join(os.path.relpath(file) for file in written)}; logs in {os.path.relpath(LOGS)}")
    print("`python -m benchmarks.tables` brings the figures into README.md and docs/results.md")
    return int(any(entry["status"] == "failed" for entry in entries))


if __name__ == "__main__":
    sys.exit(main())
