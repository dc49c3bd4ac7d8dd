"""The scores of an evaluation, printed for people: those of all classes together, then a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from maskformer_ext.evaluation.coverage import describe_coverage

_TABLE_COLUMNS = ("IoU", "ACC", "PQ_semantic", "PQ", "SQ", "RQ", "AP", "AP50")
_SUMMARY = (
    ("mIoU", "fwIoU", "mACC", "pACC"),
    ("PQ_semantic", "SQ_semantic", "RQ_semantic"),
    ("PQ", "SQ", "RQ"),
    ("PQ_things", "SQ_things", "RQ_things"),
    ("PQ_stuff", "SQ_stuff", "RQ_stuff"),
    ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR"),
)


def print_scores(metrics: dict[str, Any], classes: Sequence[str]) -> None:
    """Print the scores of all classes together, then a table with one row per class.

    Args:
        metrics: what `evaluation.run.evaluate` returned.
        classes: names, in the order of the rows.
    """
    from rich.console import Console
    from rich.markup import escape  # names of classes may hold brackets, which Rich takes for styles
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    for names in _SUMMARY:
        parts = [f"{name} [bold]{metrics[name]:.4f}[/bold]" for name in names if name in metrics]
        if parts:
            console.print("   ".join(parts))
    for key, value in metrics.items():
        if key.startswith("baseline_all_"):
            console.print(f"every pixel called {escape(key.removeprefix('baseline_all_'))}: PQ {value:.4f}")
    per_class = metrics["per_class"]
    columns = [name for name in _TABLE_COLUMNS if any(scores.get(name) is not None for scores in per_class.values())]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("class")
    for name in columns:
        table.add_column(name, justify="right")
    for name in classes:
        cells = (per_class[name].get(column) for column in columns)
        table.add_row(escape(name), *("\u2013" if cell is None else f"{cell:.3f}" for cell in cells))
    console.print(table)
    if covered := describe_coverage(metrics, classes):
        console.print(covered, markup=False)
    skipped = f", {metrics['skipped']} left out (data.on_error=skip)" if "skipped" in metrics else ""
    console.print(f"{metrics['images']} images in {metrics['seconds']:.1f} s{skipped}")
