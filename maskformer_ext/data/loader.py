"""Batches from worker processes: the training stream, a function of (seed, iteration), and one pass for evaluation."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from maskformer_ext.data.augmentation.grid import PixelGrid
from maskformer_ext.data.skipping import report_skipped
from maskformer_ext.data.types import Batch, Sample, SampleDataset
from maskformer_ext.errors import UserError
from maskformer_ext.media.images import resize_shortest_edge
from maskformer_ext.ops.targets import VOID, MaskTargets, SegmentTargets

Transform = Callable[[Sample, torch.Generator], Sample]

_PADDING = 128  # grey level of what lies between an image and the crop size
_MAX_SUBSTITUTES = 100


@dataclass
class Item:
    """What a worker made of one index: a sample, or none, and a sentence for each image that could not be read."""

    sample: Sample | None
    problems: list[str]


@dataclass
class Failure:
    """A user's error on its way from a worker: an exception would arrive wrapped in a traceback."""

    message: str


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
        for shift in range(min(count, _MAX_SUBSTITUTES) if self.skip_errors else 1):
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


class Collate:
    """Pad samples into a batch.

    Args:
        pixel_mean: of each channel, in grey levels.
        pixel_std: of each channel, in grey levels.
        size_divisibility: sides are rounded up to a multiple of this; 0 or 1 leaves them.
        crop_size: images are first padded to this height and width with grey, as part of the picture; [] does not. All
            other padding is 0 after normalisation.
        skip_errors: leave unreadable images out of the batch; otherwise one of them makes it a ``Failure``.
        replaced: whether the stream has put another image in the place of an unreadable one.
    """

    def __init__(
        self,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisibility: int,
        crop_size: Sequence[int] = (),
        skip_errors: bool = False,
        replaced: bool = False,
    ) -> None:
        self.mean, self.std = tuple(pixel_mean), tuple(pixel_std)
        self.divisor = max(size_divisibility, 1)
        self.crop_size, self.skip_errors, self.replaced = tuple(crop_size), skip_errors, replaced

    def __call__(self, items: Sequence[Item]) -> Batch | Failure:
        problems = [problem for item in items for problem in item.problems]
        samples = [item.sample for item in items if item.sample is not None]
        if problems and not self.skip_errors:
            return Failure(problems[0])
        if self.replaced and len(samples) < len(items):
            return Failure(f"no readable image among {_MAX_SUBSTITUTES} in a row: {problems[0]}")
        sizes = [(sample.segment_map.shape[0], sample.segment_map.shape[1]) for sample in samples]
        height, width = self._padded_size(sizes)
        pixels = torch.zeros(len(samples), 3, height, width, dtype=torch.uint8)
        bottom, right = self.crop_size or (0, 0)
        filled = [(max(h, bottom), max(w, right)) for h, w in sizes]
        most = max([len(sample.labels) for sample in samples], default=0)
        narrow = torch.int16 if most <= torch.iinfo(torch.int16).max else torch.int32  # half of what has to be moved
        maps = torch.full((len(samples), height, width), VOID, dtype=narrow)
        labels = torch.zeros(len(samples), most, dtype=torch.int64)
        for row, (sample, (h, w)) in enumerate(zip(samples, sizes, strict=True)):
            pixels[row, :, h:bottom, : max(w, right)] = _PADDING
            pixels[row, :, :h, w:right] = _PADDING
            pixels[row, :, :h, :w] = sample.image
            maps[row, :h, :w] = sample.segment_map
            labels[row, : len(sample.labels)] = sample.labels
        counts = torch.tensor([len(sample.labels) for sample in samples], dtype=torch.int64)
        flat = SegmentTargets(maps, labels, counts)
        overlap = any(sample.masks is not None for sample in samples)
        targets = overlapping_targets(samples, flat) if overlap else flat
        return Batch(
            pixels=pixels,
            targets=targets.with_pairs(),
            sizes=sizes,
            filled=filled,
            original_sizes=[sample.size for sample in samples],
            names=[sample.name for sample in samples],
            mean=self.mean,
            std=self.std,
            skipped=problems,
        )

    def _padded_size(self, sizes: Sequence[tuple[int, ...]]) -> list[int]:
        corner = [*sizes, self.crop_size] if self.crop_size else sizes
        largest = [max((size[axis] for size in corner), default=1) for axis in (0, 1)]
        return [-(-side // self.divisor) * self.divisor for side in largest]


def overlapping_targets(samples: Sequence[Sample], flat: SegmentTargets) -> MaskTargets:
    """Return the masks of all samples: of ``flat`` where segments do not overlap, else the sample's own."""
    masks = flat.to_masks()
    for own, sample in zip(masks.masks, samples, strict=True):
        if sample.masks is not None:
            count, height, width = sample.masks.shape
            own[:count, :height, :width] = sample.masks
    return masks


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


class Loader:
    """An iterable of ``Batch``, prepared by worker processes.

    Attributes:
        skipped: one sentence for each image left out or replaced so far (``data.on_error=skip``).

    Args:
        items: data set of ``Item``.
        batches: lists of its indices.
        collate: makes a ``Batch`` of a list of items.
        num_workers: processes; 0 works in this one.
        pin_memory: page-lock the batches, for copies to a GPU that do not wait.
        skipped: sentences about files that the data set left out.
        persistent: keep the processes from one pass to the next, until `close`.
    """

    def __init__(
        self,
        items: Dataset,
        batches: Sequence[list[int]] | IterationBatches,
        collate: Collate,
        *,
        num_workers: int,
        pin_memory: bool = False,
        skipped: Sequence[str] = (),
        persistent: bool = False,
    ) -> None:
        self.skipped: list[str] = []
        self._report(skipped)
        self._loader: DataLoader | None = DataLoader(
            items,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=num_workers,
            pin_memory=pin_memory,
            prefetch_factor=4 if num_workers else None,
            persistent_workers=persistent and num_workers > 0,
            worker_init_fn=_start_worker,
            generator=torch.Generator().manual_seed(0),  # so that starting workers leaves the global stream alone
        )

    def __len__(self) -> int:
        return 0 if self._loader is None else len(self._loader)

    def __iter__(self) -> Generator[Batch, None, None]:
        failure = yield from self._batches()
        if failure is not None:  # raised out here, so that no frame of the traceback keeps the workers alive
            self.close()
            raise UserError(failure.message)

    def _batches(self) -> Generator[Batch, None, Failure | None]:
        if self._loader is None:
            raise RuntimeError("Loader: cannot be iterated after close() or an error")
        for batch in self._loader:
            if isinstance(batch, Failure):
                return batch
            self._report(batch.skipped)
            if len(batch):
                yield batch
        return None

    def _report(self, problems: Sequence[str]) -> None:
        for problem in problems:
            if problem not in self.skipped:
                report_skipped([problem])
                self.skipped.append(problem)

    def close(self) -> None:
        """End the worker processes."""
        self._loader = None


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)  # the processes are the parallelism
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the main one decides


def _generator(*entropy: int) -> torch.Generator:
    state = np.random.SeedSequence(entropy).generate_state(2, np.uint32).tolist()
    return torch.Generator().manual_seed(state[0] << 31 | state[1] >> 1)
