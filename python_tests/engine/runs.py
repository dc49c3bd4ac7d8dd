"""Tiny trainings for the tests: a small network on digits, or on made-up batches with equal numbers of segments."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch

from maskformer_ext.config import Config
from maskformer_ext.config.load import load_config
from maskformer_ext.data.types import Batch
from maskformer_ext.ops.targets import SegmentTargets

SMALL = Path(__file__).with_name("small.yaml")


def small_arguments(output_dir: Path, *overrides: str) -> list[str]:
    """Return the arguments of the training command for a run of seconds."""
    return [f"config={SMALL}", f"output_dir={output_dir}", *overrides]


def small_config(output_dir: Path, *overrides: str) -> Config:
    """Return the configuration of a run of seconds."""
    return load_config(SMALL, [f"output_dir={output_dir}", *overrides])


def read_losses(output_dir: Path, key: str = "loss") -> dict[int, float]:
    """Return the logged loss of each iteration."""
    records = [json.loads(line) for line in (output_dir / "history.jsonl").read_text().splitlines()]
    return {record["iteration"]: record[key] for record in records if record["kind"] == "train"}


class GeneratedLoader:
    """A loader, as `build_loader` returns, of batches that a generator makes."""

    def __init__(self, batches: Generator[Batch, None, None]) -> None:
        self.skipped: list[str] = []
        self._batches = batches

    def __iter__(self) -> Generator[Batch, None, None]:
        return self._batches


def synthetic_loader(config: Config, split: str, **options: Any) -> GeneratedLoader:
    """Load batches in which every image has three segments, dealt out as the real loader does.

    With equal numbers, the normalisers of all losses are equal too, so that splitting a batch over processes or
    accumulation steps changes nothing but rounding.
    """
    return GeneratedLoader(_synthetic_batches(config, lambda index: 3, **options))


def uneven_loader(config: Config, split: str, **options: Any) -> GeneratedLoader:
    """Load batches of four images, of which the first two have one segment each and the others six."""
    return GeneratedLoader(_synthetic_batches(config, lambda index: 1 if index % 4 < 2 else 6, **options))


def _synthetic_batches(
    config: Config, segments: Callable[[int], int], *, rank: int, world: int, start: int
) -> Generator[Batch, None, None]:
    parts = world * config.train.accumulation_steps
    size = config.train.batch_size // parts
    for iteration in range(start, config.train.max_iters):
        for step in range(config.train.accumulation_steps):
            first = iteration * config.train.batch_size + (step * world + rank) * size
            yield _synthetic_batch(range(first, first + size), segments)


def _synthetic_batch(indices: range, segments: Callable[[int], int]) -> Batch:
    images, maps, labels = [], [], []
    for index in indices:
        generator = torch.Generator().manual_seed(index)
        images.append(torch.randint(0, 256, (3, 64, 64), generator=generator, dtype=torch.uint8))
        patches = torch.randint(-1, segments(index), (8, 8), generator=generator)
        maps.append(patches.repeat_interleave(8, 0).repeat_interleave(8, 1))
        labels.append(torch.randperm(10, generator=generator)[:6])
    counts = torch.tensor([segments(index) for index in indices])
    targets = SegmentTargets(torch.stack(maps).int(), torch.stack(labels), counts)
    sizes = [(64, 64)] * len(images)
    names, mean, std = [f"image{index}" for index in indices], (127.5,) * 3, (74.0,) * 3
    return Batch(torch.stack(images), targets.with_pairs(), sizes, sizes, sizes, names, mean, std)
