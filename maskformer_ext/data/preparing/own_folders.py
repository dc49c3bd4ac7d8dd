"""Check the user's own data set in full: what `prepare` reports of its files, sizes, classes, void and instances."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass, field

import numpy as np

from maskformer_ext.data.build import build_dataset
from maskformer_ext.data.findings import Findings, has_own_classes, judge
from maskformer_ext.data.preparing.duplicates import find_duplicates, image_files
from maskformer_ext.data.preparing.jobs import run_jobs, spread
from maskformer_ext.data.preparing.request import Request
from maskformer_ext.data.survey import TINY, Count, Survey, count_labels, percent
from maskformer_ext.data.types import SampleDataset
from maskformer_ext.errors import UserError, printable

_NAMED = 5
_MOST_CLASSES = 200


@dataclass
class Checked:
    """A split that was looked at.

    Attributes:
        dataset: its samples.
        survey: what its labels hold.
        sizes: height and width of each image that was read.
        void: names of images that are void everywhere.
        empty: names of images that hold no instance.
        plain: names of images of one colour.
        classes: for each image that was read its index and the classes that own a pixel.
    """

    dataset: SampleDataset
    survey: Survey
    sizes: list[tuple[int, int]] = field(default_factory=list)
    void: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)
    classes: list[tuple[int, np.ndarray]] = field(default_factory=list)

    def examples(self, count: int) -> list[int]:
        """Return indices of images that show every class, as far as so few can, the rest evenly spread."""
        chosen: list[int] = []
        unseen = set(range(self.survey.info.num_classes))
        rest = {index: set(classes.tolist()) for index, classes in self.classes}
        while rest and len(chosen) < count:
            best = max(rest, key=lambda index: len(rest[index] & unseen))
            if not rest[best] & unseen:
                break
            unseen -= rest.pop(best)
            chosen.append(best)
        left = sorted(rest)
        chosen += [left[position] for position in spread(len(left), count - len(chosen))]
        return chosen


class _CountSample:
    """Read a sample in full, which checks that its files fit, and count its labels."""

    def __init__(self, dataset: SampleDataset) -> None:
        self.dataset = dataset

    def __call__(self, index: int) -> tuple[str, tuple[int, int], Count, bool]:
        sample = self.dataset[index]
        pixels = sample.image.flatten(1)
        plain = bool((pixels == pixels[:, :1]).all())
        return sample.name, sample.size, count_labels(self.dataset, index, sample), plain


def check_folder(request: Request) -> tuple[dict[str, Checked], Findings]:
    """Check a data set, and print what it holds.

    Returns:
        The splits that can be read, and what is wrong or may be right, one sentence each.
    """
    config = request.config
    problems: list[str] = []
    splits: dict[str, Checked] = {}
    for split in request.splits:
        try:
            dataset = build_dataset(dataclasses.replace(config, on_error="skip"), split)
        except UserError as error:
            print(f"  {split}: cannot be read")
            problems.append(str(error))
            continue
        problems += getattr(dataset, "problems", ())
        splits[split] = _check_split(request, dataset, split)
        _print_split(splits[split])
        problems += splits[split].survey.problems
    surveys = {split: checked.survey for split, checked in splits.items()}
    own = any(has_own_classes(config, survey.info) for survey in surveys.values())
    found = judge(surveys.get("train"), surveys.get("val"), task=config.task, own=own)
    duplicates = find_duplicates({split: image_files(checked.dataset) for split, checked in splits.items()})
    strange = [sentence for checked in splits.values() for sentence in _strange(checked)]
    return splits, Findings(list(dict.fromkeys(problems + found.faults)), found.warnings + strange + duplicates)


def _check_split(request: Request, dataset: SampleDataset, split: str) -> Checked:
    checked = Checked(dataset, Survey.of(dataset, split))
    survey = checked.survey
    indices = spread(len(dataset), request.files)
    jobs = run_jobs(_CountSample(dataset), indices, request.workers)
    for index, (result, problem) in zip(indices, request.track(jobs, len(indices), split), strict=True):
        if problem is not None:
            survey.problems.append(problem)
            continue
        name, size, count, plain = result
        survey.add(count)
        checked.sizes.append(size)
        checked.classes.append((index, np.flatnonzero(count.pixels)))
        if not count.pixels.any():
            checked.void.append(name)
        elif not count.instances and dataset.info.thing_classes:
            checked.empty.append(name)
        if plain:
            checked.plain.append(name)
    return checked


def _print_split(checked: Checked) -> None:
    survey, sizes = checked.survey, checked.sizes
    print(f"\n  {survey.split}: {survey.extent}{_sizes(sizes)}")
    _print_classes(survey)
    for names, what in ((checked.void, "void everywhere"), (checked.empty, "without instance")):
        if names:
            print(f"    {_listed(names, what)}")


def _sizes(sizes: list[tuple[int, int]]) -> str:
    if not sizes:
        return ""
    largest = max(sizes, key=lambda size: size[0] * size[1])
    smallest = min(sizes, key=lambda size: size[0] * size[1])
    if largest == smallest:
        return f", all of {largest[1]}x{largest[0]} pixels" if len(set(sizes)) == 1 else ""
    median = round(statistics.median(min(size) for size in sizes))
    between = f"from {smallest[1]}x{smallest[0]} to {largest[1]}x{largest[0]} pixels"
    return f", {between}, median shorter side {median}"


def _print_classes(survey: Survey) -> None:
    """Print a row for each class: its share of all pixels, the images in which it occurs, and its instances."""
    if not survey.looked:
        return
    total = max(1, survey.void + int(survey.pixels.sum()))
    info = survey.info
    names = [printable(name) for name in info.classes[:_MOST_CLASSES]]
    width = max(map(len, [*names, "class"]))
    things = f" {'instances':>9}" if info.thing_classes else ""
    print(f"    {'id':>5} {'class':<{width}} {'pixels':>7} {'images':>7}{things}")
    for label, name in enumerate(names):
        share, images = percent(survey.pixels[label] / total), survey.images[label]
        counted = f" {survey.segments[label] if label in info.thing_classes else '-':>9}" if things else ""
        print(f"    {label + survey.first:>5} {name:<{width}} {share:>7} {images:>7}{counted}")
    if info.num_classes > _MOST_CLASSES:
        print(f"    and {info.num_classes - _MOST_CLASSES} classes more")
    only_things = len(info.thing_classes) == info.num_classes
    rest = "outside" if only_things else "void"
    value = "" if survey.void_value is None else str(survey.void_value)
    print(f"    {value:>5} {rest:<{width}} {percent(survey.void_share):>7}")
    if info.thing_classes and survey.instances:
        most, median = max(survey.instances), round(statistics.median(survey.instances))
        print(f"    instances per image: median {median}, at most {most}")


def _strange(checked: Checked) -> list[str]:
    """Return what may be a slip: images of one colour, objects of a few pixels."""
    sentences = []
    if checked.plain:
        sentences.append(f"{checked.survey.split}: {_listed(checked.plain, 'of one colour')}")
    if tiny := checked.survey.tiny:
        total = int(checked.survey.segments[list(checked.survey.info.thing_classes)].sum())
        sentences.append(
            f"{checked.survey.split}: {tiny} of {total} instances have fewer than {TINY} pixels, which may be slips"
        )
    return sentences


def _listed(names: list[str], what: str) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} {what}: {', '.join(map(printable, names[:_NAMED]))}{more}"
