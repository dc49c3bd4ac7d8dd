"""What a survey of the labels says about a training run: what it cannot learn, with the likely reason and the mend."""

from __future__ import annotations

from dataclasses import dataclass, field

from maskformer_ext.config import DataConfig
from maskformer_ext.data.catalog import CATALOG, canonical_name, known_classes
from maskformer_ext.data.survey import Survey, percent
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import printable

_MASK = 255  # what programs write for "inside" in a mask of one object.
_MOST_VOID = 0.5  # More, beside classes that never occur, is no ordinary border or unlabelled rest.
_NAMED = 8  # Classes that a sentence names


@dataclass
class Findings:
    """What a look at the labels found.

    Attributes:
        faults: what makes a run useless, one sentence each.
        warnings: what may be as it should be.
    """

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def has_own_classes(config: DataConfig, info: DatasetInfo) -> bool:
    """Return whether the classes are the user's own. Each of those should occur; in public tables many are rare."""
    known = known_classes(config.name, config.task)
    return CATALOG[canonical_name(config.name)].own_classes or (known is not None and known.classes != info.classes)


def judge(train: Survey | None, val: Survey | None, *, task: str, own: bool) -> Findings:
    """Compare what the labels hold with what the classes promise.

    Args:
        train: the training labels; None: they were not looked at.
        val: the validation labels, likewise.
        task: ``data.task``.
        own: what `has_own_classes` returns.
    """
    found = Findings()
    for survey in (train, val):
        if survey is not None:
            _judge_files(survey, found)
    if train is not None and train.looked:
        if task == "semantic":
            _judge_semantic(train, found, own)
        else:
            _judge_instances(train, found, own)
    if train is not None and val is not None and train.looked and val.looked:
        _compare(train, val, found, own)
    return found


def _judge_files(survey: Survey, found: Findings) -> None:
    if survey.problems and not survey.looked:
        found.faults.append(f"no {survey.split} label can be read: {survey.problems[0]}")
        return
    only_things = len(survey.info.thing_classes) == survey.info.num_classes  # all else is void then
    if 0 < survey.all_void < survey.looked and not only_things:
        found.warnings.append(
            f"{survey.all_void} {survey.split} images are void everywhere ({survey.extent}) and teach nothing"
        )


def _judge_semantic(train: Survey, found: Findings, own: bool) -> None:
    classes, absent = train.info.num_classes, train.absent
    occurring = classes - len(absent)
    void = "void" if train.void_value is None else f"the value {train.void_value}, which is void,"
    covers = f"{void} covers {percent(train.void_share)} of their pixels"
    mend = "masks of 0 and 255 must hold 0 and 1" if train.void_value == 255 else "does it mean a class"
    mend += "; data.ignore_label, or ignore_label in the classes file, says which value is void"
    if not occurring:
        found.faults.append(f"the training labels hold no class ({train.extent}): {covers}: {mend}")
    elif classes == 1:
        kind = f" ({covers}: {mend})" if train.void else ""
        (found.faults if train.void else found.warnings).append(
            f"the classes file names {_name(train, 0)} alone, so every pixel would be called that{kind}: name the "
            "background, too"
        )
    elif absent and train.void and (occurring == 1 or (train.void_share > _MOST_VOID and train.complete and own)):
        found.faults.append(
            f"the training labels never hold {_names(train, absent)} ({train.extent}), while {covers}: {mend}"
        )
    elif occurring == 1:
        only = next(label for label in range(classes) if train.pixels[label])
        found.warnings.append(
            f"every pixel of the training labels is {_name(train, only)} ({train.extent}), never "
            f"{_names(train, absent)}: there is nothing to tell apart"
        )
    else:
        _warn_absent(train, found, own, f"; {covers}: does it mean one of them" if train.void else "")


def _judge_instances(train: Survey, found: Findings, own: bool) -> None:
    most = max(train.instances)
    if most == 0:
        found.faults.append(
            f"the training labels hold no instance ({train.extent}), so there is nothing to find: they may belong to "
            f"other images{', or the classes file may name other things' if own else ''}"
        )
        return
    _warn_absent(train, found, own)
    with_one, same = len(train.lone_ids), len(set(train.lone_ids)) == 1
    if most == 1 and with_one and same and (train.looked > 1 or _MASK in train.lone_ids):
        value = train.lone_ids[0]
        sentence = (
            f"no training label has more than one instance, and its id is always {value} ({train.extent}): masks of 0 "
            f"and {value} join all objects of an image into one; give each object an id of its own, for instance by "
            "skimage.measure.label"
        )
        if train.in_parts:
            lies = f"; in {train.in_parts} of {with_one} images it lies in separate parts"
            found.faults.append(sentence + lies)
        else:
            found.warnings.append(f"{sentence}, unless there is never more than one")
    empty = sum(count == 0 for count in train.instances)
    if empty * 2 > train.looked:
        found.warnings.append(f"{empty} training images hold no instance ({train.extent})")


def _warn_absent(train: Survey, found: Findings, own: bool, reason: str = "") -> None:
    if train.absent and (train.complete or own):
        found.warnings.append(f"the training labels never hold {_names(train, train.absent)} ({train.extent}{reason})")


def _compare(train: Survey, val: Survey, found: Findings, own: bool) -> None:
    for one, other, means in (
        (val, train, ("it is scored, but never learnt", "they are scored, but never learnt")),
        (train, val, ("the scores say nothing of it", "the scores say nothing of them")),
    ):
        only = [label for label in other.absent if one.pixels[label]]
        if only and other.complete and (own or one.complete):
            found.warnings.append(
                f"{_names(one, only)} occur{'s' * (len(only) == 1)} in {one.split} labels, but never in those of "
                f"{other.split} ({other.extent}): {means[len(only) > 1]}"
            )


def crowding(train: Survey, queries: int, share: float) -> str | None:
    """Return a sentence where images hold more instances than a model has queries; None where they do not.

    Args:
        train: the training labels.
        queries: ``model.num_queries``.
        share: of an image that a crop or a tile shows.
    """
    most = max(train.instances, default=0)
    if most * share <= queries:
        return None
    part = f", about {round(most * share)} in a crop or tile" if share < 1 else ""
    return (
        f"up to {most} instances per image{part} ({train.extent}), but model.num_queries={queries}: a model finds no "
        "more than it has queries; raise it, or cut images into tiles (inference.tile and data.augmentation.crop_size)"
    )


def _name(survey: Survey, label: int) -> str:
    return f'class {label + survey.first} "{printable(survey.info.classes[label])}"'


def _names(survey: Survey, labels: list[int]) -> str:
    if len(labels) == 1:
        return _name(survey, labels[0])
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    listed = ", ".join(f'{label + survey.first} "{printable(survey.info.classes[label])}"' for label in labels[:_NAMED])
    return f"{len(labels)} of {survey.info.num_classes} classes: {listed}{more}"
