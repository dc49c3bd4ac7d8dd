"""Time and memory as Q, T, K and the image grow: `python -m benchmarks.scaling [--device cuda] [--plot-only]`.

Write `benchmarks/results/scaling-<device>.json` and draw it as `docs/scaling-<device>.svg`. Every point is a case of
`benchmarks/bench_*.py` with one parameter changed. As in `make bench`, results are compared first, calls run in turns,
and memory is measured in fresh processes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from benchmarks import isolated, memory, report
from benchmarks.harness import machine
from benchmarks.timers import timer_for

DOCS = Path(__file__).resolve().parent.parent / "docs"
_ROUNDS = 5


@dataclass(frozen=True)
class Sweep:
    """One parameter of one benchmark, and the values it takes.

    Attributes:
        title: what grows, for the plot.
        work: what is computed, in a few words.
        axis: the plot's x axis.
        module: the benchmark.
        points: x and the arguments of the module's `build`.
    """

    title: str
    work: str
    axis: str
    module: str
    points: list[tuple[float, dict[str, Any]]]


def _targets(edge: int) -> dict[str, Any]:
    return {"classes": 19, "size": (edge // 4, edge // 4), "target_size": (edge, edge)}


SWEEPS = [
    Sweep(
        "queries",
        "matching cost, B 2, T 30, 128x128",
        "Q",
        "benchmarks.bench_matching_cost",
        [(q, {"targets": "segment_map", "queries": q}) for q in (25, 50, 100, 200, 400, 800)],
    ),
    Sweep(
        "segments",
        "mask loss and gradient, 128x128 to 512x512",
        "T",
        "benchmarks.bench_mask_loss",
        [(t, {"targets": "segment_map", "masks": t}) for t in (5, 10, 20, 40, 80, 160)],
    ),
    Sweep(
        "classes",
        "semantic inference, Q 100, 128x256 to 512x1024",
        "K",
        "benchmarks.bench_semantic_inference",
        [(k, {"classes": k, "size": (128, 256), "target_size": (512, 1024)}) for k in (5, 10, 19, 50, 150, 400, 847)],
    ),
    Sweep(
        "image area",
        "semantic inference, Q 100, K 19",
        "megapixels",
        "benchmarks.bench_semantic_inference",
        [(edge**2 / 1e6, _targets(edge)) for edge in (128, 256, 512, 1024, 2048)],
    ),
]


def measure(sweep: Sweep, device: str) -> dict[str, Any]:
    """Measure ours and the first peer at every point of a sweep."""
    points = []
    for x, parameters in sweep.points:
        parameters = {"device": device, **parameters}
        case = isolated.build(sweep.module, parameters)
        case.errors()
        peer = next(iter(case.peers))
        timer = timer_for(device, {"ours": case.ours, "peer": case.peers[peer]})
        turn = timer.settle()
        for _ in range(max(_ROUNDS, min(50, int(2.0 / turn)))):
            for name in timer.calls:
                timer.run(name)
        point: dict[str, Any] = {"x": x, "peer_name": peer}
        for name, who in (("ours", "ours"), ("peer", peer)):
            extra = isolated.run(sweep.module, parameters, who, seconds=0.0)["memory"]["extra"]
            point[name] = {"median": timer.summary(name)["median"], "memory": extra}
        points.append(point)
        print(
            f"{sweep.title} {x:g}: {point['ours']['median']:.4f} s, {peer} {point['peer']['median']:.4f} s", flush=True
        )
        del case, timer
        gc.collect()
    return {"title": sweep.title, "work": sweep.work, "axis": sweep.axis, "points": points}


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw time above memory, one column per sweep, both axes logarithmic."""
    plt.rcParams.update(
        {"svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif", "svg.hashsalt": "scaling"}
    )
    sweeps = result["sweeps"]
    figure, axes = plt.subplots(2, len(sweeps), figsize=(3.1 * len(sweeps), 4.8), layout="constrained")
    for column, sweep in enumerate(sweeps):
        x = [point["x"] for point in sweep["points"]]
        for row, (key, unit, scale) in enumerate((("median", "time, ms", 1e3), ("memory", "extra memory, MB", 1e-6))):
            axis = axes[row][column]
            for who, color, marker in (("peer", "#888888", "s"), ("ours", "#0a66c2", "o")):
                label = "ours" if who == "ours" else sweep["points"][0]["peer_name"]
                y = [max(point[who][key] * scale, 1e-2) for point in sweep["points"]]
                axis.loglog(x, y, color=color, marker=marker, markersize=3.5, linewidth=1.5, label=label)
            axis.grid(which="major", color="#dddddd", linewidth=0.6)
            axis.minorticks_off()
            axis.set_xticks(x, [f"{value:.2g}" if value < 1 else f"{value:.0f}" for value in x])
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
            if column == 0:
                axis.set_ylabel(unit)
            if row == 0:
                axis.set_title(f"{sweep['title']}\n{sweep['work']}", fontsize=7.5)
            else:
                axis.set_xlabel(sweep["axis"])
            axis.legend(frameon=False, fontsize=7)
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)


def main(arguments: list[str]) -> None:
    """Measure, write and draw all sweeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--plot-only", action="store_true", help="draw what was measured before")
    options = parser.parse_args(arguments)
    if not options.plot_only and not memory.is_steady_state():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **memory.STEADY_STATE})
    path = report.RESULTS / f"scaling-{options.device}.json"
    if options.plot_only:
        result = json.loads(path.read_text())
    else:
        memory.touch_memory()
        sweeps = [measure(sweep, options.device) for sweep in SWEEPS]
        result = {**machine(options.device), "sweeps": sweeps}
        path.write_text(json.dumps(result, indent=1) + "\n")
    picture = DOCS / f"scaling-{options.device}.svg"
    draw(result, picture)
    print(report.machine_line(result), path, picture, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
