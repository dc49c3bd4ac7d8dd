"""Compare mask classification with per-pixel classification, and the paper's ablations, at a size that two cores train.

    python -m benchmarks.claim [--study claim matching ...] [--recipe digits_fine camvid] [--seeds 3] [key=value ...]

Every run is `python -m maskformer_ext.train` of one recipe with the backbone, budget and data of that recipe; only what
a variant names is changed. A run that has finished is not repeated: the command may be interrupted and started again.
It prints a table with mean and spread of the final scores over the seeds. Sources: MaskFormer (arXiv 2107.06278),
table 1 and sections 4.2 and 4.3.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

# Variants of each study: what they change. The first of a study is the one that the others are held against.
STUDIES: dict[str, dict[str, tuple[str, ...]]] = {
    "claim": {
        "MaskFormer": (),
        "PerPixelBaseline": ("model.architecture=per_pixel_baseline",),
        "PerPixelBaseline+": ("model.architecture=per_pixel_baseline_plus",),
    },
    "matching": {
        "bipartite matching, a query a class": ("model.num_queries={classes}",),
        "fixed matching": ("model.num_queries={classes}", "criterion.matching=fixed"),
    },
    "queries": {f"{count} queries": (f"model.num_queries={count}",) for count in (20, 50, 100)},
    "decoder": {f"{count} decoder layers": (f"model.decoder_layers={count}",) for count in (1, 3, 6)},
}
SCORES = ("mIoU", "pACC")


def run_folder(output: Path, recipe: str, variant: str, seed: int) -> Path:
    """Name the folder of a run."""
    slug = "".join(letter if letter.isalnum() else "_" for letter in variant.lower().replace("+", "_plus"))
    return output / recipe / slug / f"seed{seed}"


def train(folder: Path, recipe: str, settings: list[str], seed: int) -> dict[str, float]:
    """Train unless `folder` holds the scores already; return them."""
    scores = folder / "metrics.json"
    if not scores.exists():
        command = [sys.executable, "-m", "maskformer_ext.train", f"config={recipe}", f"seed={seed}"]
        command += [f"output_dir={folder}", "resume=auto", "eval_untrained=false", *settings]
        done = subprocess.run(command)
        if done.returncode:
            raise SystemExit(f"claim: {' '.join(command[1:])} ended with {done.returncode}")
    return json.loads(scores.read_text())


def summary(runs: list[dict[str, float]], score: str) -> str:
    """Write mean and standard deviation over runs, `0.512 ± 0.004`."""
    values = [run[score] for run in runs if score in run]
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def table(results: dict[tuple[str, str], list[dict[str, float]]], scores: tuple[str, ...] = SCORES) -> str:
    """Write the results of (recipe, variant) as a Markdown table."""
    lines = [f"| data | variant | runs | {' | '.join(scores)} |", "|---" * (3 + len(scores)) + "|"]
    for (recipe, variant), runs in results.items():
        cells = " | ".join(summary(runs, score) for score in scores)
        lines.append(f"| {recipe} | {variant} | {len(runs)} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, print the table, and keep it beside the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", nargs="+", choices=STUDIES, default=["claim"])
    parser.add_argument("--recipe", nargs="+", default=["digits_fine"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("output/claim"))
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of every run, as the recipe's")
    options = parser.parse_args()
    from maskformer_ext.config_io import load_config
    from maskformer_ext.data.build import build_dataset

    results: dict[tuple[str, str], list[dict[str, float]]] = {}
    for recipe in options.recipe:
        classes = build_dataset(load_config(recipe, options.settings).data, "val").info.num_classes
        for study in options.study:
            for variant, changes in STUDIES[study].items():
                settings = [*options.settings, *(change.format(classes=classes) for change in changes)]
                results[recipe, variant] = [
                    train(run_folder(options.output, recipe, variant, seed), recipe, settings, seed)
                    for seed in range(options.seeds)
                ]
    text = table(results)
    (options.output / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
