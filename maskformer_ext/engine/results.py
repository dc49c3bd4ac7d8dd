"""Score a run and write what remains of it: ``metrics.json`` and the results page."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from maskformer_ext.engine.progress import History, Progress
from maskformer_ext.engine.setup import Setup
from maskformer_ext.engine.signals import StopSignals, TrainingInterrupted
from maskformer_ext.evaluation.run import evaluate

METRICS_FILE = "metrics.json"
RESULTS_FILE = "results.html"

_HEADLINES = ("mIoU", "pACC", "PQ", "SQ", "RQ", "PQ_things", "PQ_stuff", "AP", "AP50")


def evaluate_run(
    setup: Setup, iteration: int, history: History, progress: Progress, signals: StopSignals
) -> dict[str, Any]:
    """Score the present weights on the validation images, all processes together.

    Returns:
        What ``evaluate`` returns.

    Raises:
        TrainingInterrupted: if a signal comes meanwhile (in a single process; several finish the evaluation together).
    """
    world = setup.accelerator.num_processes

    def watch(done: int, total: int) -> None:
        progress.describe(f"evaluating {done}/{total}")
        if signals.received and world == 1:
            raise TrainingInterrupted(iteration, setup.output_dir, signals.received)

    metrics = evaluate(
        setup.evaluated_model,
        setup.val_set,
        setup.config,
        rank=setup.accelerator.process_index,
        world=world,
        progress=watch,
    )
    scores = "  ".join(f"{key} {metrics[key]:.3f}" for key in _HEADLINES if key in metrics)
    progress.note(f"evaluation after {iteration} iterations: {scores}  ({metrics['seconds']:.0f} s)")
    history.add(iteration, "eval", metrics)
    return metrics


def write_results(
    setup: Setup,
    iteration: int,
    training: dict[str, Any],
    history: History,
    progress: Progress,
    signals: StopSignals,
) -> dict[str, Any]:
    """Do the final evaluation and write ``metrics.json`` and the results page.

    Returns:
        The content of ``metrics.json``: the scores, "untrained" (if they were asked for) and "training".
    """
    metrics = evaluate_run(setup, iteration, history, progress, signals)
    metrics["training"] = training
    if setup.untrained:
        metrics["untrained"] = setup.untrained
    if setup.accelerator.is_main_process:
        _write_json(setup.output_dir / METRICS_FILE, metrics)
    setup.accelerator.wait_for_everyone()
    return metrics


def _write_json(path: Path, values: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)
