"""Write the tables of README.md and docs/results.md from the recorded figures: `python -m benchmarks.tables`."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import report

ROOT = Path(__file__).resolve().parent.parent
# A page's tables stand between a pair of comments: one pair for CPUs, one for every GPU that was measured.
MARKERS = "<!-- benchmarks.tables: begin -->", "<!-- benchmarks.tables: end -->"
CPU_FILES = ("cpu-avx512", "cpu-avx2", "cpu-baseline")  # README shows the first of them, docs/results.md shows all
GPU_MARKERS = "<!-- benchmarks.tables: GPU begin -->", "<!-- benchmarks.tables: GPU end -->"

# The rows of README.md: the work, and the op and a part of the title of its record.
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
    ("`ms_deform_attn`, 5376 queries, forward + backward", "ms_deform_attn", "forward + backward"),
    ("`point_matching_cost`, 10 layers, 2 images", "point_matching_cost", "segment map"),
    ("`point_mask_loss` with its draws, 40 masks", "point_mask_loss", "drawn"),
    ("`box_matching_cost`, 13 groups, with the assignment", "box_matching_cost", "13 groups"),
    ("results of Mask2Former, semantic, 1024x2048", "post_processing", "Mask2Former semantic"),
    ("results of Mask2Former, panoptic, 1024x2048", "post_processing", "Mask2Former panoptic"),
]

_README_GPU = [
    ("`mask_loss`, 320 masks 128x128 -> 512x512, forward + backward", "mask_loss", "320 masks"),
    ("`matching_cost`, 6 layers, 16 images, 100 queries, 20 segments", "matching_cost", "512x512, segment map"),
    ("the same straight from the embeddings", "matching_cost_from_embeddings", "L 6, B 16"),
    ("`linear_sum_assignment`, 96 problems of 100x20, uniform", "linear_sum_assignment", "100x20, uniform"),
    ("the same, congested", "linear_sum_assignment", "100x20, congested"),
    ("`linear_sum_assignment`, 208 problems of 300x100, uniform", "linear_sum_assignment", "300x100, uniform"),
    ("the same, congested", "linear_sum_assignment", "300x100, congested"),
    ("`linear_sum_assignment`, 208 problems of 300x300, uniform", "linear_sum_assignment", "300x300, uniform"),
    ("the same, congested", "linear_sum_assignment", "300x300, congested"),
    ("dot-product, matching and losses of 6 layers, 16 images", "criterion", "Q 100, K 150, T 20, "),
    ("the same, 30 segments on average and 375 at most", "criterion", "at most"),
    ("`semantic_inference`, 150 classes, 1024x2048", "semantic_inference", "1024x2048, random logits, resize l"),
    ("the same, 4000x5000", "semantic_inference", "4000x5000"),
    ("`panoptic_inference`, 30 of 100 queries kept, 1024x2048", "panoptic_inference", "original's mode"),
    ("training step, R50, 512x512, batch 16, bfloat16", "train_step", "6 supervised layers"),
]


def readme_table(records: list[dict[str, Any]]) -> str:
    """Return the rows of README.md, against the first peer of each record.

    Raises:
        ValueError: if no record fits a row.
    """
    lines = ["| work | ours | peer | ratio | default allocator | peak extra memory |", "|---|---|---|---|---|---|"]
    for work, op, part in _README:
        fitting = _fitting(records, op, part)
        if not fitting:
            raise ValueError(f"{CPU_FILES[0]}.json has no record of {op} with {part!r} in its title")
        _, peer, ours, theirs, ratio, default, _, share, _ = report.rows(fitting[0])[0]
        default = default.partition(" = ")[2] or "-"
        lines.append(f"| {work} | {ours} | {theirs} ({peer}) | {ratio} | {default} | {share} |")
    return "\n".join(lines)


def readme_gpu_table(records: list[dict[str, Any]]) -> str:
    """Return the rows of README.md for one GPU, in float32 and in bfloat16.

    Left out is what was not measured there, ran on the PyTorch references, or ran on a busy machine.
    """
    records = [record for record in records if not report.caveats(record)]
    lines = ["| work | dtype | ours | peer | ratio | peak extra memory |", "|---|---|---|---|---|---|"]
    for work, op, part in _README_GPU:
        for record in _fitting(records, op, part):
            dtype = "bfloat16" if record["title"].endswith("bfloat16") else "float32"
            _, peer, ours, theirs, ratio, _, memory, share, _ = report.rows(record)[0]
            memory = memory if share == "-" else share
            lines.append(f"| {work} | {dtype} | {ours} | {theirs} ({peer}) | {ratio} | {memory} |")
    return "\n".join(lines)


def _fitting(records: list[dict[str, Any]], op: str, part: str) -> list[dict[str, Any]]:
    return [record for record in records if record["op"] == op and part in record["title"]]


def gpu_files() -> list[Path]:
    """Return the files of every GPU that was measured."""
    others = {*report.RESULTS.glob("cpu-*.json"), *report.RESULTS.glob("scaling-*")}
    return [path for path in sorted(report.RESULTS.glob("*.json")) if path not in others and report.read(path)]


def cpu_files() -> list[Path]:
    """Return the files of every kind of processor that was measured, the widest instruction set first."""
    return [path for path in map(report.path_of, CPU_FILES) if path.exists() and report.read(path)]


def section(table: Callable[[list[dict[str, Any]]], str], files: list[Path]) -> str:
    """Return the table of every file below its device, date and versions, or "" where there is no file."""
    parts = []
    for path in files:
        records = report.latest(report.read(path))
        parts.append(f"{_machine(records)}\n\n{table(records)}\n")
    return "\n".join(parts)


def _machine(records: list[dict[str, Any]]) -> str:
    """Describe where the newest record was taken, in lines of the documents' width."""
    newest = max(records, key=lambda record: record["date"])
    return textwrap.fill(report.machine_line(newest), 120, break_long_words=False, break_on_hyphens=False)


def results_table(records: list[dict[str, Any]]) -> str:
    """Return every row for docs/results.md, in the order of ops."""
    ordered = sorted(records, key=lambda record: record["op"])
    rows = [row for record in ordered for row in report.rows(record)]
    lines = [report.HEADER, ("---",) * len(report.HEADER), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def filled(text: str, table: str, markers: tuple[str, str] = MARKERS) -> str:
    """Return a page with the lines between its two markers replaced by a table.

    Raises:
        ValueError: if the page has no such markers.
    """
    begin, end = markers
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the page must have {begin} and {end}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def pages() -> dict[Path, str]:
    """Return both pages as they should be."""
    records = report.latest(report.read(cpu_files()[0]))
    readme, results = ROOT / "README.md", ROOT / "docs" / "results.md"
    texts = {
        readme: filled(readme.read_text(), f"{_machine(records)}\n\n{readme_table(records)}"),
        results: filled(results.read_text(), section(results_table, cpu_files()).rstrip("\n")),
    }
    for page, table in ((readme, readme_gpu_table), (results, results_table)):
        texts[page] = filled(texts[page], section(table, gpu_files()), GPU_MARKERS)
    return texts


def main() -> None:
    """Rewrite both pages."""
    for path, text in pages().items():
        path.write_text(text)
        print(path)


if __name__ == "__main__":
    main()
