"""Check the user's own data set in full: what `prepare` reports of its files, sizes, classes, void and instances."""

from __future__ import annotations

import dataclasses
import statistics

from maskformer_ext.data.build import build_dataset
from maskformer_ext.data.findings import has_own_classes, judge
from maskformer_ext.data.preparing.jobs import run_jobs, spread
from maskformer_ext.data.preparing.request import Request
from maskformer_ext.data.survey import Count, Survey, count_labels, describe, percent
from maskformer_ext.data.types import SampleDataset
from maskformer_ext.errors import UserError, printable

_NAMED = 5
_MOST_CLASSES = 200


class _CountSample:
    """Read a sample in full, which checks that its files fit, and count its labels."""

    def __init__(self, dataset: SampleDataset) -> None:
        self.dataset = dataset

    def __call__(self, index: int) -> tuple[str, tuple[int, int], Count]:
        sample = self.dataset[index]
        return sample.name, sample.size, count_labels(self.dataset, index)


def check_folder(request: Request) -> tuple[list[str], list[str]]:
    """Check a data set, and print what it holds.

    Returns:
        What is wrong, and what may be right, one sentence each.
    """
    config = request.config
    problems: list[str] = []
    surveys: dict[str, Survey] = {}
    for split in request.splits:
        try:
            dataset = build_dataset(dataclasses.replace(config, on_error="skip"), split)
        except UserError as error:
            print(f"  {split}: cannot be read")
            problems.append(str(error))
            continue
        problems += getattr(dataset, "problems", ())
        surveys[split], wrong = _check_split(request, dataset, split)
        problems += wrong
    own = any(has_own_classes(config, survey.info) for survey in surveys.values())
    found = judge(surveys.get("train"), surveys.get("val"), task=config.task, own=own)
    return problems + found.faults, found.warnings


def _check_split(request: Request, dataset: SampleDataset, split: str) -> tuple[Survey, list[str]]:
    survey = Survey.of(dataset, split)
    indices = spread(len(dataset), request.files)
    jobs = run_jobs(_CountSample(dataset), indices, request.workers)
    sizes: list[tuple[int, int]] = []
    void, empty = [], []
    for result, problem in request.track(jobs, len(indices), split):
        if problem is not None:
            survey.problems.append(problem)
            continue
        name, size, count = result
        survey.add(count)
        sizes.append(size)
        if not count.pixels.any():
            void.append(name)
        elif not count.instances and dataset.info.thing_classes:
            empty.append(name)
    print(f"  {describe(survey)}")
    if sizes:
        shorter = [min(size) for size in sizes]
        largest = max(sizes, key=lambda size: size[0] * size[1])
        smallest = min(sizes, key=lambda size: size[0] * size[1])
        print(
            f"    sizes from {smallest[1]}x{smallest[0]} to {largest[1]}x{largest[0]}, median shorter side "
            f"{round(statistics.median(shorter))}"
        )
    _print_classes(survey)
    for names, what in ((void, "void everywhere"), (empty, "without instance")):
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            print(f"    {len(names)} {what}: {', '.join(map(printable, names[:_NAMED]))}{more}")
    return survey, survey.problems


def _print_classes(survey: Survey) -> None:
    """Print a row for each class: the share of all pixels, and the images in which it occurs."""
    total = max(1, survey.void + int(survey.pixels.sum()))
    names = [printable(name) for name in survey.info.classes[:_MOST_CLASSES]]
    width = max(map(len, names))
    for label, name in enumerate(names):
        kind = " thing" if label in survey.info.thing_classes else ""
        share, images = percent(survey.pixels[label] / total), survey.images[label]
        print(f"    {label:>5} {name:<{width}} {share:>7} in {images} images{kind}")
    if survey.info.num_classes > _MOST_CLASSES:
        print(f"    and {survey.info.num_classes - _MOST_CLASSES} classes more")
