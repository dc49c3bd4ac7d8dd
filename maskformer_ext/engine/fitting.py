"""Before training: a short look at the data, and the values that a recipe leaves to it (``data.fit``)."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maskformer_ext.config import Config
from maskformer_ext.config.load import load_config
from maskformer_ext.data.build import build_dataset
from maskformer_ext.data.findings import crowding, has_own_classes, judge
from maskformer_ext.data.survey import Survey, describe, look, shapes
from maskformer_ext.data.types import SampleDataset
from maskformer_ext.errors import UserError

SIZES, CROP = "data.augmentation.min_sizes", "data.augmentation.crop_size"
TEST_SIZE, QUERIES = "inference.min_size", "model.num_queries"

_CAP = 384  # of the shorter side: a step costs some three times what one of the camvid recipe does
_SCALES = (0.7, 0.85, 1.0, 1.15, 1.3)
_MULTIPLE = 32  # the coarsest stride: crops of other sizes would be padded
_QUERIES = (20, 300)
_SECONDS, _PATIENCE = 2.0, 10.0


@dataclass
class Fitted:
    """What a look at the data gave.

    Attributes:
        config: with the values that were chosen, and ``data.fit`` empty.
        train_set: the training images, where they were opened.
        notes: what to tell the user, one line each.
    """

    config: Config
    train_set: Any = None
    notes: list[str] = field(default_factory=list)


def fit_to_data(config: Config, val_set: SampleDataset, accelerator: Any, checkpoint: Path | None) -> Fitted:
    """Look at the labels, refuse data that cannot teach its classes, and choose the values of ``data.fit``.

    The first process looks; the others get its values. A run that is taken up keeps the values that it began with.

    Args:
        config: of the run.
        val_set: its validation images.
        accelerator: the processes.
        checkpoint: that the run is taken up from, in the first process; None: it starts.

    Raises:
        UserError: in every process, if ``data.check`` is "error" and the data cannot teach what its classes promise.
    """
    if config.data.name == "digits" and not config.data.fit:
        return Fitted(config)
    fitted, fault = Fitted(config), None
    if accelerator.is_main_process:
        try:
            fitted = _recorded(config, checkpoint) if checkpoint else _look_and_fit(config, val_set)
        except UserError as error:
            fault = str(error)
    if accelerator.num_processes > 1:
        from accelerate.utils import broadcast_object_list

        fault, values = broadcast_object_list([fault, _values(fitted.config)], from_process=0)
        fitted = replace(fitted, config=_with(config, values))
    if fault is not None:
        raise UserError(fault)
    return fitted


def _look_and_fit(config: Config, val_set: SampleDataset) -> Fitted:
    train_set = build_dataset(config.data, "train")
    check = config.data.check
    notes: list[str] = []
    train = None
    if check != "none" or QUERIES in config.data.fit:
        train = look(train_set, "train", seconds=_SECONDS, patience=_PATIENCE)
        _raise_first(config, train)
    config, chosen = fit(config, train_set, train)
    if check != "none" and train is not None:
        val = look(val_set, "val", seconds=_SECONDS)
        _raise_first(config, val)
        notes.append(describe(train))
        found = judge(train, val, task=config.data.task, own=has_own_classes(config.data, train_set.info))
        if found.faults and check == "error":
            raise UserError(f"{found.faults[0]}. data.check=warn trains nevertheless")
        if crowded := crowding(train, config.model.num_queries, _share(config, train_set)):
            found.warnings.append(crowded)
        notes += [f"warning: {sentence}" for sentence in (*found.faults, *found.warnings)]
    return Fitted(config, train_set, [*notes, *chosen])


def fit(config: Config, train_set: SampleDataset, train: Survey | None) -> tuple[Config, list[str]]:
    """Choose the values of the keys in ``data.fit``.

    Images are brought to the median of their shorter sides, 384 at most, in training (from 0.7 to 1.3 of it) and in
    inference. Where one of the two is given, the other follows it.

    Args:
        config: of the run.
        train_set: the images.
        train: their labels.

    Returns:
        The configuration with those values, and a line that says what was chosen.
    """
    keys, values = config.data.fit, dict[str, Any]()
    if not keys:
        return config, []
    sizes = shapes(train_set) if set(keys) - {QUERIES} else []
    shorter = round(statistics.median(min(size) for size in sizes)) if sizes else 0
    side = min(shorter, _CAP)
    if SIZES not in keys and config.data.augmentation.min_sizes:
        side = round(statistics.median(config.data.augmentation.min_sizes))
    elif TEST_SIZE not in keys and config.inference.min_size:
        side = config.inference.min_size
    if side and SIZES in keys:
        values[SIZES] = [max(1, round(side * scale)) for scale in _SCALES]
    if side and CROP in keys:
        crop = max(_MULTIPLE, side // _MULTIPLE * _MULTIPLE)
        values[CROP] = [crop, crop]
    if side and TEST_SIZE in keys:
        keeps = SIZES not in keys and not config.data.augmentation.min_sizes
        values[TEST_SIZE] = 0 if keeps else side
    if QUERIES in keys and train is not None and not config.init_from:  # weights have a number of queries
        values[QUERIES] = _queries(config, train)
    config = _with(config, values)
    if not values:
        return config, []
    listed = " ".join(f"{key}={str(value).replace(' ', '')}" for key, value in values.items())
    of = f"the median shorter side of {len(sizes)} images is {shorter}" if sizes else "the labels"
    return config, [f"chosen from the data ({of}): {listed}"]


def _queries(config: Config, train: Survey) -> int:
    """Leave room above the most segments that were seen, more where not all images were."""
    classes = train.info.num_classes
    if config.data.task == "semantic":
        wanted, most = 2.0 * classes, max(100, classes)
    else:
        stuff = classes - len(train.info.thing_classes)
        wanted, most = (1.25 if train.complete else 1.5) * max(train.instances, default=0) + stuff, _QUERIES[1]
    return min(max(_QUERIES[0], -(-int(wanted + 0.999) // 10) * 10), most)


def _share(config: Config, train_set: SampleDataset) -> float:
    """Return the share of a usual image that a training crop or a tile shows, the larger of the two."""
    sizes = shapes(train_set, most=20, seconds=0.5)
    if not sizes:
        return 1.0
    height, width = (statistics.median(side) for side in zip(*sizes, strict=True))
    augmentation, inference = config.data.augmentation, config.inference
    shares = []
    crop = augmentation.crop_size or [10**9, 10**9]
    scale = statistics.median(augmentation.min_sizes) / min(height, width) if augmentation.min_sizes else 1.0
    shares.append(min(1.0, crop[0] / (height * scale)) * min(1.0, crop[1] / (width * scale)))
    tile = inference.tile or 10**9
    scale = inference.min_size / min(height, width) if inference.min_size else 1.0
    shares.append(min(1.0, tile / (height * scale)) * min(1.0, tile / (width * scale)))
    return max(shares)


def _raise_first(config: Config, survey: Survey) -> None:
    if survey.problems and config.data.on_error == "raise":
        raise UserError(survey.problems[0])


def _recorded(config: Config, checkpoint: Path) -> Fitted:
    """Take the values that the run began with from its checkpoint."""
    recorded = _values(load_config(checkpoint / "config.yaml"))
    return Fitted(_with(config, {key: recorded[key] for key in config.data.fit}))


def _values(config: Config) -> dict[str, Any]:
    return {
        SIZES: config.data.augmentation.min_sizes,
        CROP: config.data.augmentation.crop_size,
        TEST_SIZE: config.inference.min_size,
        QUERIES: config.model.num_queries,
    }


def _with(config: Config, values: dict[str, Any]) -> Config:
    """Return a configuration with these values and nothing left to choose."""
    new = {**_values(config), **values}
    augmentation = replace(config.data.augmentation, min_sizes=new[SIZES], crop_size=new[CROP])
    return replace(
        config,
        data=replace(config.data, augmentation=augmentation, fit=[]),
        inference=replace(config.inference, min_size=new[TEST_SIZE]),
        model=replace(config.model, num_queries=new[QUERIES]),
    )
