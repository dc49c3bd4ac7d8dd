"""Run a model over a data set and score what it predicts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from maskformer_ext.config import Config
from maskformer_ext.config.tasks import TASKS, possible_tasks
from maskformer_ext.data.skipping import read_sample, report_skipped
from maskformer_ext.data.types import DatasetInfo, Sample, SampleDataset
from maskformer_ext.errors import UserError
from maskformer_ext.evaluation.instance import InstanceEvaluator
from maskformer_ext.evaluation.panoptic import ConstantBaseline, PanopticEvaluator, RegionEvaluator
from maskformer_ext.evaluation.semantic import SemanticEvaluator
from maskformer_ext.evaluation.submission import SubmissionWriter
from maskformer_ext.inference import segment_tasks

_BATCH_PIXELS = 1 << 18
"""Small images go through the network together until they hold this many pixels."""

_COCO_DETECTIONS = 100


def evaluate(
    model: nn.Module,
    dataset: SampleDataset,
    config: Config,
    *,
    device: str | torch.device | None = None,
    rank: int = 0,
    world: int = 1,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    writer: SubmissionWriter | None = None,
) -> dict[str, Any]:
    """Score a model on a data set, at the original size of its images.

    Args:
        model: a ``MaskFormer`` or ``PerPixelBaseline``.
        dataset: its ``info`` gives the classes, its items are ``Sample``s.
        config: ``inference`` says how; ``data.task`` decides, where ``inference.tasks`` is empty, which scores.
        device: where the model is moved to first; None: it stays where it is.
        rank: this process; it takes every ``world``-th image.
        world: how many processes share the images; they must all call this function.
        limit: score the first so many images only.
        progress: called with the images done and their number, in this process.
        writer: also writes the results, in a benchmark's format; the first process finishes it.

    Returns:
        In every process the scores of all images:

        - Semantic: ``mIoU``, ``fwIoU``, ``mACC``, ``pACC``, ``PQ_semantic``, ``SQ_semantic``, ``RQ_semantic``.
        - Panoptic: ``PQ``, ``SQ``, ``RQ``, the same with ``_things`` and ``_stuff``, and ``PQ_<class>`` where there are
          at most 20 classes.
        - Panoptic: ``baseline_all_<stuff class>``, the PQ of every image as one segment of that class. It is there for
          the class where this scores best.
        - Instance: ``AP``, ``AP50``, ``AP75``, ``AP_small``, ``AP_medium``, ``AP_large``, ``AR``.
        - ``per_class``: a dict from class name to its scores, None where the class does not occur.
        - ``images``, ``seconds`` and ``skipped``: how much was done. Files left out with ``data.on_error=skip`` are
          logged one by one.

    Raises:
        UserError: if the data set is empty or has other classes than the model, or a task does not suit them.
    """
    info: DatasetInfo = dataset.info
    total = len(dataset) if limit is None else min(limit, len(dataset))
    if total == 0:
        raise UserError(f"evaluate: the data set {info.name} holds no images")
    if model.num_classes != info.num_classes:
        raise UserError(
            f"evaluate: the model knows {model.num_classes} classes, but {info.name} has {info.num_classes}"
        )
    if device is not None:
        model.to(device)
    scorers = Scorers(tasks_of(config, info), info, config, writer)
    left_out = list(getattr(dataset, "problems", ()))  # by the data set itself, such as images without a label
    if rank == 0:
        report_skipped(left_out)
    started = time.perf_counter()
    indices = range(rank, total, world)
    waiting: list[tuple[int, Sample]] = []
    for done, index in enumerate(indices, start=1):
        sample = read_sample(dataset, index, skip_errors=config.data.on_error == "skip")
        if sample is None:
            scorers.skipped += 1
        else:
            waiting.append((index, sample))
        pixels = sum(sample.image.shape[-2] * sample.image.shape[-1] for _, sample in waiting)
        if waiting and (pixels >= _BATCH_PIXELS or done == len(indices)):
            scorers.update(model, waiting)
            waiting = []
        if progress is not None:
            progress(done, len(indices))
    if world > 1:
        scorers.reduce(rank, world)
    metrics = scorers.compute()
    if scorers.skipped == total:
        raise UserError(f"evaluate: none of the {total} images of {info.name} can be read")
    if skipped := scorers.skipped + len(left_out):
        metrics["skipped"] = skipped
    if writer is not None and rank == 0:
        writer.finish()
    seconds = round(time.perf_counter() - started, 3)
    return {**metrics, "images": total - scorers.skipped, "seconds": seconds}


def tasks_of(config: Config, info: DatasetInfo) -> list[str]:
    """Return the tasks to score: those that the configuration names, or all that data set and model offer.

    Raises:
        UserError: if a named task does not exist or the data set or the model cannot do it.
    """
    per_pixel = config.model.architecture != "maskformer"
    knows_things = bool(info.thing_classes) and config.data.task != "semantic"  # the truth of that task joins things
    offered = possible_tasks(config.data.task, config.model.architecture, knows_things, tta=config.inference.tta)
    for task in config.inference.tasks:
        if task not in TASKS:
            raise UserError(f"inference.tasks must be among {', '.join(TASKS)}, got {task!r}")
        if per_pixel and task != "semantic":
            raise UserError(f"inference.tasks: {config.model.architecture} can do semantic only, got {task!r}")
        if config.inference.tta and task != "semantic":
            raise UserError(
                f"inference.tasks: test-time augmentation (inference.tta) is for semantic only, got {task!r}"
            )
    return list(config.inference.tasks) or offered


class Scorers:
    """The evaluators of several tasks, fed from one run of the network.

    Args:
        tasks: which.
        info: the classes.
        config: how to run the model.
        writer: also writes the results of its task.

    Raises:
        UserError: if the writer's task is not one of ``tasks``.
    """

    def __init__(
        self, tasks: list[str], info: DatasetInfo, config: Config, writer: SubmissionWriter | None = None
    ) -> None:
        if writer is not None and writer.task not in tasks:
            raise UserError(f"the submission holds {writer.task} results, but evaluated is {', '.join(tasks)} only")
        self.tasks, self.info, self.config, self.writer = tasks, info, config, writer
        classes, things = info.num_classes, info.thing_classes
        self.skipped = 0
        self.parts: dict[str, Any] = {}
        if "semantic" in tasks:
            self.parts["semantic"] = SemanticEvaluator(classes, info.ignore_label)
            self.parts["regions"] = RegionEvaluator(classes, info.ignore_label)
        if "panoptic" in tasks:
            self.parts["panoptic"] = PanopticEvaluator(classes, things)
            self.parts["baseline"] = ConstantBaseline(classes, things)
        if "instance" in tasks:
            # COCO counts 100 instances per image. A recipe for crowded images asks for more, or gets them from tiles.
            most = 10_000 if config.inference.tile else max(_COCO_DETECTIONS, config.inference.top_k)
            self.parts["instance"] = InstanceEvaluator(classes, things or None, max_detections=most)

    def update(self, model: nn.Module, samples: list[tuple[int, Sample]]) -> None:
        """Segment some samples, given with their index in the data set, and count the results."""
        tile = self.config.inference.tile
        side = (tile, tile) if tile else samples[0][1].size
        results = segment_tasks(
            model,
            [sample.image for _, sample in samples],
            self.tasks,
            thing_classes=self.info.thing_classes,
            config=self.config.inference,
            batch_size=max(1, _BATCH_PIXELS // (side[0] * side[1])),
        )
        for (index, sample), result in zip(samples, results, strict=True):
            truth = sample.scored()
            segments = (truth.segment_map, truth.labels, truth.crowd)
            if self.writer is not None:
                self.writer.write(index, sample.name, result[self.writer.task])
            if "semantic" in result:
                known = truth.label_map(self.info.ignore_label)
                for name in ("semantic", "regions"):
                    self.parts[name].update(result["semantic"].class_map, known)
            if "panoptic" in result:
                panoptic = result["panoptic"]
                self.parts["panoptic"].update(panoptic.segment_map, panoptic.segments_info, *segments)
                self.parts["baseline"].update(*segments)
            if "instance" in result:
                found = result["instance"]
                arguments = (index, found.scores, found.labels, found.rle(), *segments)
                self.parts["instance"].update(*arguments, instances=truth.instances)

    def reduce(self, rank: int, world: int) -> None:
        """Add up the counts of all processes in each of them."""
        states: list[Any] = [None] * world
        parts = {**self.parts, **({} if self.writer is None else {"writer": self.writer})}
        own = {name: part.state() for name, part in parts.items()}
        torch.distributed.all_gather_object(states, (own, self.skipped))
        for other, (state, skipped) in enumerate(states):
            if other != rank:
                self.skipped += skipped
                for name, part in parts.items():
                    part.merge(state[name])

    def compute(self) -> dict[str, Any]:
        """Return the scores of all tasks in one dict, as `evaluate` describes."""
        names = self.info.classes
        flat: dict[str, Any] = {}
        per_class: dict[str, dict[str, Any]] = {name: {} for name in names}
        for task in ("semantic", "regions", "panoptic", "instance"):
            if task not in self.parts:
                continue
            scores = self.parts[task].compute()
            for key, values in scores.pop("per_class").items():
                for name, value in zip(names, values, strict=True):
                    per_class[name][key] = None if math.isnan(value) else value
            flat.update({key: value for key, value in scores.items() if not math.isnan(value)})
        if "panoptic" in self.parts:
            if len(names) <= 20:
                known = {name: per_class[name]["PQ"] for name in names}
                flat.update({f"PQ_{name}": value for name, value in known.items() if value is not None})
            baseline = self.parts["baseline"].compute()
            if baseline is not None:
                flat[f"baseline_all_{names[baseline[0]]}"] = baseline[1]
        return {**flat, "per_class": per_class}
