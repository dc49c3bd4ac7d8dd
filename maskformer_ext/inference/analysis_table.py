"""The figures of recipes as a table for a terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

_COLUMNS = ("recipe", "input", "parameters", "GFLOPs", "paper", "images/s", "paper", "score in the paper")


def draw_table(rows: list[dict[str, Any]]) -> Table:
    """Return a table of what `analyze_recipe` found, one row per recipe."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, name in enumerate(_COLUMNS):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        paper = row["paper"] or {}
        score = paper.get("score")
        table.add_row(
            row["recipe"],
            "x".join(map(str, row["size"])),
            f"{row['parameters'] / 1e6:.1f}M",
            f"{row['gflops']:.1f}",
            _cell(paper.get("gflops"), "{:.0f}"),
            _cell(row["images_per_second"], "{:.3g}"),
            _cell(paper.get("images_per_second"), "{:.1f}"),
            "\u2013" if score is None else f"{paper['metric']} {score:.1f}",
        )
    return table


def draw_peers(recipe: str, size: tuple[int, int], peers: list[dict[str, Any]]) -> Table:
    """Return a table of what `compare_peers` found for a recipe, one row per runtime."""
    title = f"{recipe}, {size[0]}x{size[1]}, the network alone on the CPU"
    table = Table(title=title, title_justify="left", min_width=len(title), box=None, pad_edge=False, header_style="dim")
    for index, name in enumerate(("runtime", "network", "images/s", "peak memory of the process")):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in peers:
        if problem := row.get("problem"):
            table.add_row(f"{row['name']}: {problem}", "\u2013", "\u2013", "\u2013")
            continue
        time, rate, memory = 1e3 * row["seconds"], row["images_per_second"], row["peak_mib"]
        table.add_row(row["name"], f"{time:.0f} ms", f"{rate:.3g}", f"{memory:.0f} MiB")
    return table


def _cell(value: float | None, form: str) -> str:
    return "\u2013" if value is None else form.format(value)
