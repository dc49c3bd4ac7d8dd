"""Score a run and write what remains of it: ``metrics.json`` and the results page."""

from __future__ import annotations

from typing import Any

import numpy as np

from maskformer_ext.data.skipping import read_sample
from maskformer_ext.data.types import Sample
from maskformer_ext.engine.progress import History, Progress
from maskformer_ext.engine.report import RESULTS_FILE, write_report
from maskformer_ext.engine.setup import Setup
from maskformer_ext.engine.signals import StopSignals, TrainingInterrupted
from maskformer_ext.evaluation.coverage import describe_coverage
from maskformer_ext.evaluation.run import evaluate, tasks_of
from maskformer_ext.files import write_json
from maskformer_ext.inference import segment_tasks
from maskformer_ext.inference.results import segments_of
from maskformer_ext.pictures.segments import draw_segments
from maskformer_ext.pictures.sizes import resize_image

METRICS_FILE = "metrics.json"
__all__ = ["METRICS_FILE", "RESULTS_FILE", "evaluate_run", "write_results"]

_PICTURES = 3
_LONGEST_SIDE = 1024  # of a picture in pixels; each evaluation adds some to a file that is kept
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
    skipped = f", {metrics['skipped']} left out" if "skipped" in metrics else ""
    covered = describe_coverage(metrics, setup.info.classes)
    coverage = f"  {covered}" if covered else ""
    progress.note(f"evaluation after {iteration} iterations: {scores}  ({metrics['seconds']:.0f} s{skipped}){coverage}")
    history.add(iteration, "eval", metrics)
    if setup.accelerator.is_main_process:
        for index in range(min(_PICTURES, len(setup.val_set))):
            skip = setup.config.data.on_error == "skip"
            sample = read_sample(setup.val_set, index, skip_errors=skip, report=False)  # the evaluation has said so
            if sample is not None:
                history.add_picture(iteration, f"prediction/{index}", _picture(setup, sample))
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
        write_json(setup.output_dir / METRICS_FILE, metrics)
        write_report(
            setup.output_dir,
            model=setup.evaluated_model,
            dataset=setup.val_set,
            config=setup.config,
            metrics=metrics,
        )
    setup.accelerator.wait_for_everyone()
    return metrics


def _picture(setup: Setup, sample: Sample) -> np.ndarray:
    """Put image, truth and prediction side by side, (h, 3 w, 3) uint8, shrunk to what a page shows."""
    info = setup.info
    offered = tasks_of(setup.config, info)
    task = next(task for task in ("panoptic", "instance", "semantic") if task in offered)
    (results,) = segment_tasks(  # which, other than `segment`, does not warn of weights that are not trained yet
        setup.evaluated_model,
        [sample.image],
        [task],
        thing_classes=info.thing_classes,
        config=setup.config.inference,
    )
    image = sample.image.permute(1, 2, 0).cpu().numpy()
    truth = draw_segments(
        image, sample.segment_map.cpu().numpy(), sample.labels.tolist(), info, long_side=_LONGEST_SIDE
    )
    drawn = draw_segments(image, *segments_of(results[task]), info, long_side=_LONGEST_SIDE)
    shown = resize_image(image, (truth.height, truth.width))
    return np.concatenate([shown, np.asarray(truth), np.asarray(drawn)], axis=1)
