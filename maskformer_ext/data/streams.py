"""What a worker makes of an index: samples of the training stream, a function of (seed, item), or of one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import Dataset

from maskformer_ext.data.augmentation.grid import PixelGrid
from maskformer_ext.data.types import Sample, SampleDataset
from maskformer_ext.errors import UserError
from maskformer_ext.media.images import resize_shortest_edge

MOST_SUBSTITUTES = 100
"""How many images in a row may be unreadable before the training stream gives up."""

Transform = Callable[[Sample, torch.Generator], Sample]


@dataclass
class Item:
    """What a worker made of one index: a sample, or none, and a sentence for each image that could not be read."""

    sample: Sample | None
    problems: list[str]


class TrainStream(Dataset):
    """The endless sequence of training samples: item k depends on the seed and k alone.

    Epoch ``k // len(dataset)`` visits the images in its own random order; the augmentation of item k has its own seed.

    Args:
        dataset: what to draw from.
        transform: called with a sample and a generator.
        seed: of the run.
        skip_errors: put the next readable image in the place of one that is not.
        overlaps: keep whole masks where segments overlap.
    """

    def __init__(
        self, dataset: SampleDataset, transform: Transform, *, seed: int, skip_errors: bool, overlaps: bool
    ) -> None:
        self.dataset, self.transform, self.seed = dataset, transform, seed
        self.skip_errors, self.overlaps = skip_errors, overlaps
        self._epoch, self._order = -1, torch.empty(0)

    def __getitem__(self, k: int) -> Item:
        count = len(self.dataset)
        epoch, position = divmod(k, count)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(count, generator=_generator(self.seed, 0, epoch))
        problems: list[str] = []
        for shift in range(min(count, MOST_SUBSTITUTES) if self.skip_errors else 1):
            try:
                sample = self.dataset[int(self._order[(position + shift) % count])]
            except UserError as error:
                problems.append(str(error))
            else:
                sample = sample if self.overlaps else sample.without_overlaps()
                return Item(self.transform(sample, _generator(self.seed, 1, k)), problems)
        return Item(None, problems)


class EvaluationPass(Dataset):
    """The images of a data set at the size of the network's input.

    Args:
        dataset: what to read.
        min_size: shortest side in pixels; 0 keeps the size.
        max_size: longest side in pixels.
        overlaps: keep whole masks where segments overlap.
    """

    def __init__(self, dataset: SampleDataset, *, min_size: int, max_size: int, overlaps: bool) -> None:
        self.dataset, self.min_size, self.max_size, self.overlaps = dataset, min_size, max_size, overlaps

    def __getitem__(self, index: int) -> Item:
        try:
            sample = self.dataset[index]
        except UserError as error:
            return Item(None, [str(error)])
        sample = sample if self.overlaps else sample.without_overlaps()
        if self.min_size:
            image = resize_shortest_edge(sample.image, self.min_size, self.max_size)
            grid = PixelGrid((sample.segment_map.shape[0], sample.segment_map.shape[1]))
            grid.resize((image.shape[-2], image.shape[-1]))
            masks = None if sample.masks is None else grid.read(sample.masks)
            sample = replace(sample, image=image, segment_map=grid.read(sample.segment_map), masks=masks, truth=None)
        return Item(sample, [])


class IterationBatches:
    """The items of each micro-batch of one process, from an iteration on.

    An iteration has the same items for any number of processes and accumulation steps.

    Args:
        batch_size: images per iteration, over all processes and accumulation steps.
        accumulation_steps: micro-batches per iteration.
        rank: this process.
        world: number of processes.
        start: first iteration.
        stop: iteration to end before.
    """

    def __init__(
        self, *, batch_size: int, accumulation_steps: int, rank: int, world: int, start: int, stop: int
    ) -> None:
        parts = world * accumulation_steps
        if batch_size < 1 or accumulation_steps < 1 or batch_size % parts:
            raise UserError(
                f"train.batch_size must be a multiple of processes x train.accumulation_steps = {world} x "
                f"{accumulation_steps}, got {batch_size}."
            )
        self.batch_size, self.accumulation_steps, self.micro_size = batch_size, accumulation_steps, batch_size // parts
        self.rank, self.world, self.start, self.stop = rank, world, start, stop

    def __len__(self) -> int:
        return max(self.stop - self.start, 0) * self.accumulation_steps

    def __iter__(self) -> Iterator[list[int]]:
        for iteration in range(self.start, self.stop):
            for step in range(self.accumulation_steps):
                first = iteration * self.batch_size + (step * self.world + self.rank) * self.micro_size
                yield list(range(first, first + self.micro_size))


def _generator(*entropy: int) -> torch.Generator:
    state = np.random.SeedSequence(entropy).generate_state(2, np.uint32).tolist()
    return torch.Generator().manual_seed(state[0] << 31 | state[1] >> 1)
