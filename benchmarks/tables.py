"""Write the tables of README.md and docs/results.md from the recorded figures: `python -m benchmarks.tables`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import report

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- benchmarks.tables: begin -->", "<!-- benchmarks.tables: end -->"

# What README.md shows: the work, and the op and a part of the title of its record.
_README = [
    (
        "`mask_loss`, 60 masks 128x128 -> 512x512, forward + backward",
        "mask_loss",
        "60 masks 128x128 -> 512x512, forward + b",
    ),
    ("the same from a segment map", "matched_mask_loss", "60 masks"),
    ("`matching_cost`, 2 images, 100 queries, 30 segments", "matching_cost", "segment map"),
    ("the same straight from the embeddings of 6 layers", "matching_cost_from_embeddings", "L 6"),
    ("dot-product, matching and losses of 6 layers, forward + backward", "criterion", "L 6"),
    ("`linear_sum_assignment`, 96 problems of 100x30", "linear_sum_assignment", "100x30, uniform"),
    ("`linear_sum_assignment`, 16 problems of 300x300", "linear_sum_assignment", "300x300, uniform"),
    (
        "`semantic_inference`, 150 classes, 1024x2048, random logits",
        "semantic_inference",
        "K 150, 256x512 -> 1024x2048, random logits, resize l",
    ),
    ("the same, a trained model with 11 classes", "semantic_inference", "trained"),
    ("`panoptic_inference`, 30 of 100 queries kept, 1024x2048", "panoptic_inference", "transformers's mode"),
    (
        "`instance_inference`, 30 instances, 1024x2048, run lengths",
        "instance_inference",
        "30 instances, 256x512 -> 1024x2048, RLE, t",
    ),
    ("training step, Swin-T, 512x512, batch 2", "train_step", "6 supervised layers"),
    ("transformers' own network after `accelerate(model)`", "train_step", "accelerate()"),
]


def readme_table(records: list[dict[str, Any]]) -> str:
    """Return the rows of README.md; the first peer of each record counts.

    Raises:
        ValueError: no record fits a row.
    """
    lines = ["| work | ours | peer | ratio | default allocator | peak extra memory |", "|---|---|---|---|---|---|"]
    for work, op, part in _README:
        fitting = [record for record in records if record["op"] == op and part in record["title"]]
        if not fitting:
            raise ValueError(f"benchmarks/results/cpu.json has no record of {op} with {part!r} in its title")
        _, peer, ours, theirs, ratio, default, _, share, _ = report.rows(fitting[0])[0]
        default = default.partition(" = ")[2] or "-"
        lines.append(f"| {work} | {ours} | {theirs} ({peer}) | {ratio} | {default} | {share} |")
    return "\n".join(lines)


def results_table(records: list[dict[str, Any]]) -> str:
    """Return every row, as docs/results.md has them, in the order of ops."""
    ordered = sorted(records, key=lambda record: record["op"])
    rows = [row for record in ordered for row in report.rows(record)]
    lines = [report.HEADER, ("---",) * len(report.HEADER), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def filled(text: str, table: str) -> str:
    """Return a page with the lines between the two markers replaced."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the page must have {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def pages() -> dict[Path, str]:
    """Return both pages as they should be."""
    records = report.latest(json.loads((report.RESULTS / "cpu.json").read_text()))
    newest = max(records, key=lambda record: record["date"])
    readme, results = ROOT / "README.md", ROOT / "docs" / "results.md"
    return {
        readme: filled(readme.read_text(), readme_table(records)),
        results: filled(results.read_text(), f"{report.machine_line(newest)}\n\n{results_table(records)}"),
    }


def main() -> None:
    """Rewrite both pages."""
    for path, text in pages().items():
        path.write_text(text)
        print(path)


if __name__ == "__main__":
    main()
