"""Compare mask classification with per-pixel classification, and the paper's ablations, at a size that two cores train.

    python -m benchmarks.claim [--study claim matching ...] [--recipe digits_fine] [--seeds 3] [--jobs 2] [key=value]

Every run is `python -m maskformer_ext.train` of one recipe with its data, budget and backbone. A variant changes only
what it names. For `digits_fine` the backbone first learns the 16 coarse classes as a per-pixel baseline, once for all
runs.

A run that has finished is not repeated: the command may be interrupted and started again. After every run the table is
written anew, with mean and standard deviation of the final scores over the seeds.

Sources: MaskFormer (arXiv 2107.06278), table 1 and sections 4.2 and 4.3.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Variant:
    """What a variant changes in training and in the evaluation after it.

    `{classes}` stands for the number of classes.
    """

    training: tuple[str, ...] = ()
    inference: tuple[str, ...] = ()


STUDIES: dict[str, dict[str, Variant]] = {
    "claim": {
        "MaskFormer": Variant(),
        "PerPixelBaseline": Variant(("model.architecture=per_pixel_baseline",)),
        "PerPixelBaseline+": Variant(("model.architecture=per_pixel_baseline_plus",)),
    },
    "attention": {
        "masked": Variant(("model.masked_attention=true",)),
        "plain (the paper's)": Variant(("model.masked_attention=false",)),
    },
    "matching": {
        "bipartite, one query per class": Variant(("model.num_queries={classes}",)),
        "fixed, one query per class": Variant(("model.num_queries={classes}", "criterion.matching=fixed")),
    },
    "cost": {
        "masks": Variant(),
        "boxes": Variant(("model.box_head=true", "criterion.matching=box")),
    },
    "inference": {
        "semantic (sum over queries)": Variant(),
        "general (argmax of queries)": Variant((), ("inference.semantic=argmax",)),
    },
    "queries": {f"{count}": Variant((f"model.num_queries={count}",)) for count in (20, 50, 100)},
    "decoder layers": {f"{count}": Variant((f"model.decoder_layers={count}",)) for count in (1, 3, 6)},
}
SCORES = ("mIoU", "PQ_semantic", "pACC")
# How the backbone of a recipe is trained before all runs, beyond the weights that the recipe names.
WARM_UP = {
    "digits_fine": (
        "data.fine_classes=false",
        "model.architecture=per_pixel_baseline",
        "train.max_iters=1500",
        "seed=100",
    )
}


def run_folder(output: Path, recipe: str, training: Sequence[str], seed: int) -> Path:
    """Return the folder of a run, named by what it changes. Variants that train alike share it across studies."""
    name = "_".join(change.split(".", 1)[1] for change in training) or "recipe"
    return output / recipe / name.replace("=", "_") / f"seed{seed}"


def run(module: str, arguments: Sequence[str], log: Path, threads: int) -> None:
    """Run a command of this package with its output in `log`. Its failure ends the study."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"maskformer_ext.{module}", *arguments]
    with log.open("w") as words:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, stdout=words, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        raise SystemExit(f"claim: {' '.join(command[1:])} ended with {done.returncode}; see {log}")


def train(folder: Path, recipe: str, settings: Sequence[str], threads: int) -> None:
    """Train unless `folder` holds the scores already."""
    arguments = [f"config={recipe}", *settings]
    if (folder / "metrics.json").exists():
        if json.loads((folder / "claim.json").read_text()) != arguments:
            raise SystemExit(f"claim: {folder} was trained with other settings; choose another --output")
        return
    start = time.monotonic()
    run(
        "train",
        [*arguments, f"output_dir={folder}", "resume=auto", "eval_untrained=false"],
        folder / "log.txt",
        threads,
    )
    (folder / "claim.json").write_text(json.dumps(arguments))
    print(f"{folder}: {(time.monotonic() - start) / 60:.1f} minutes", flush=True)


def warm_up(output: Path, recipe: str, settings: Sequence[str]) -> list[str]:
    """Train the backbone that all runs of a recipe start from, and return the setting that names it."""
    if recipe not in WARM_UP:
        return []
    from maskformer_ext.checkpoints.runs import resolve_checkpoint

    folder = output / recipe / "backbone"
    train(folder, recipe, [*settings, *WARM_UP[recipe]], os.cpu_count() or 1)
    return [f"model.backbone_weights={resolve_checkpoint(folder)}"]


def scores(folder: Path, variant: Variant, threads: int = 1) -> dict[str, float] | None:
    """Return the final scores of a run, or None where it is not trained yet.

    Where the variant changes inference, the run is evaluated again.
    """
    if not (folder / "metrics.json").exists():
        return None
    if not variant.inference:
        return json.loads((folder / "metrics.json").read_text())
    slug = "_".join(change.replace("=", "_") for change in variant.inference)
    result = folder / f"{slug}.json"
    if not result.exists():
        arguments = [f"checkpoint={folder}", f"output={result}", *variant.inference]
        run("evaluate", arguments, folder / f"{slug}.txt", threads)
    return json.loads(result.read_text())


def summary(runs: Sequence[dict[str, float]], score: str) -> str:
    """Return mean and standard deviation over runs, as in `0.512 ± 0.004`."""
    values = [run[score] for run in runs if score in run]
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def table(results: dict[tuple[str, str, str], list[dict[str, float]]]) -> str:
    """Return the results of (recipe, study, variant) as a Markdown table."""
    lines = [f"| data | study | variant | runs | {' | '.join(SCORES)} |", "|---" * (4 + len(SCORES)) + "|"]
    for names, runs in results.items():
        cells = " | ".join(summary(runs, score) for score in SCORES)
        lines.append(f"| {' | '.join(names)} | {len(runs)} | {cells} |")
    return "\n".join(lines)


def study(output: Path, recipe: str, studies: Sequence[str], seeds: int, jobs: int, settings: list[str]) -> str:
    """Run what is missing of the studies of one recipe, and return their table."""
    from maskformer_ext.config.load import load_config
    from maskformer_ext.data.build import build_dataset

    config = load_config(recipe, settings)
    classes = build_dataset(config.data, "val").info.num_classes
    common = [*settings, *warm_up(output, recipe, settings)]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    rows = [(name, label, variant) for name in studies for label, variant in STUDIES[name].items()]

    def changes(variant: Variant) -> list[str]:
        wanted = [change.format(classes=classes) for change in variant.training]
        return [change for change in wanted if load_config(recipe, [*settings, change]) != config]  # the recipe's own

    def finished() -> str:
        found: dict[tuple[str, str, str], list[dict[str, float]]] = {}
        for name, label, variant in rows:
            folders = (run_folder(output, recipe, changes(variant), seed) for seed in range(seeds))
            runs = [result for folder in folders if (result := scores(folder, variant, threads)) is not None]
            found[recipe, name, label] = runs
        return table(found)

    # One seed of every variant before the next seed, and each distinct training once.
    wanted = {run_folder(output, recipe, changes(v), s): (changes(v), s) for s in range(seeds) for _, _, v in rows}
    with ThreadPoolExecutor(jobs) as pool:
        trainings = [
            pool.submit(train, folder, recipe, [*common, *changed, f"seed={seed}"], threads)
            for folder, (changed, seed) in wanted.items()
        ]
        try:
            for training in trainings:
                training.result()
                (output / f"{recipe}.md").write_text(finished() + "\n")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return finished()


def main() -> None:
    """Run what is missing, print the tables and keep them beside the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", nargs="+", choices=STUDIES, default=["claim"])
    parser.add_argument("--recipe", nargs="+", default=["digits_fine"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the cores")
    parser.add_argument("--output", type=Path, default=Path("output/claim"))
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of every run, as the recipe's")
    options = parser.parse_args()
    for recipe in options.recipe:
        print(study(options.output, recipe, options.study, options.seeds, options.jobs, options.settings))


if __name__ == "__main__":
    main()
