"""Data sets and loaders from a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from maskformer_ext.config import Config, DataConfig
from maskformer_ext.data.catalog import CATALOG
from maskformer_ext.data.locations import check_name, find_root, source_root
from maskformer_ext.data.types import SampleDataset
from maskformer_ext.media.decoding import limit_pixels

if TYPE_CHECKING:
    from maskformer_ext.data.loader import Loader

SPLITS = ("train", "val")


def build_dataset(config: DataConfig, split: str) -> SampleDataset:
    """Build a data set of ``Sample`` with ``info``, ``__len__`` and ``__getitem__``, without augmentation.

    Args:
        config: which one and where it is.
        split: "train" or "val".

    Raises:
        UserError: if the name, the task, a folder or a file is not what it must be.
    """
    if split not in SPLITS:
        raise ValueError(f"build_dataset: split must be train or val, got {split!r}")
    name = check_name(config)
    limit_pixels(config.max_pixels or None)
    description = CATALOG[name]
    if description.generated:
        return description.build(config, Path(), split)
    dataset = description.build(config, source_root(description, find_root(config)), split)
    dataset.exif = config.exif
    return dataset


def build_loader(
    config: Config,
    split: str,
    *,
    dataset: SampleDataset | None = None,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
    batch_size: int = 1,
    pin_memory: bool | None = None,
) -> Loader:
    """Build the loader of a split.

    "train" yields the augmented micro-batches of the iterations ``start`` to ``train.max_iters``. There are
    ``train.accumulation_steps`` per iteration, each with this process's share of ``train.batch_size``. What an
    iteration holds depends on ``config.seed`` and its number only. So a run continued at ``start`` sees what it would
    have seen.

    "val" yields every ``world``-th image once, resized as ``inference`` says, each time it is iterated.

    Args:
        config: the whole configuration.
        split: "train" or "val".
        dataset: what `build_dataset` returned for this split; None: it is built here.
        rank: this process.
        world: number of processes.
        start: first iteration (train).
        batch_size: images per batch (val).
        pin_memory: page-lock the batches; None: if there is a GPU.

    Returns:
        A ``Loader``: an iterable of ``Batch`` with a length, ``skipped`` and ``close()``.

    Raises:
        UserError: as `build_dataset`, and if batch or crop sizes do not fit. While iterating: if a file is damaged or
            does not fit and ``data.on_error`` is "raise".
    """
    from maskformer_ext.data.augmentation.transforms import Augment
    from maskformer_ext.data.collate import Collate
    from maskformer_ext.data.loader import Loader
    from maskformer_ext.data.streams import EvaluationPass, IterationBatches, TrainStream

    data, train = config.data, config.train
    dataset = build_dataset(data, split) if dataset is None else dataset
    skipped = getattr(dataset, "problems", ())
    skip = data.on_error == "skip"
    training = split == "train"
    collate = Collate(
        pixel_mean=config.model.pixel_mean,
        pixel_std=config.model.pixel_std,
        size_divisibility=config.model.size_divisibility,
        crop_size=data.augmentation.crop_size if training and data.augmentation.pad_to_crop else (),
        skip_errors=skip,
        replaced=training,
    )
    items: TrainStream | EvaluationPass
    batches: IterationBatches | list[list[int]]
    if training:
        augment = Augment(data.augmentation, drop_empty_segments=data.drop_empty or data.task == "semantic")
        items = TrainStream(dataset, augment, seed=config.seed, skip_errors=skip, overlaps=data.overlaps)
        batches = IterationBatches(
            batch_size=train.batch_size,
            accumulation_steps=train.accumulation_steps,
            rank=rank,
            world=world,
            start=start,
            stop=train.max_iters,
        )
    else:
        sizes = config.inference
        items = EvaluationPass(dataset, min_size=sizes.min_size, max_size=sizes.max_size, overlaps=data.overlaps)
        mine = list(range(rank, len(dataset), world))
        batches = [mine[first : first + batch_size] for first in range(0, len(mine), batch_size)]
    return Loader(
        items,
        batches,
        collate,
        skipped=skipped,
        num_workers=data.num_workers,
        pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
        persistent=not training,
    )
