"""Where a command runs: alone on one device, or as one of the processes that ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maskformer_ext.cli.arguments import choose_device

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Place:
    """The part of one process.

    Attributes:
        rank: which of the processes it is, from 0.
        world: how many there are.
        device: where its model goes.
    """

    rank: int
    world: int
    device: str | torch.device


def is_launched() -> bool:
    """Return whether ``torchrun`` started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join_processes(values: Mapping[str, str | None]) -> Place:
    """Join the other processes, if there are some; otherwise take the device that ``device=`` names."""
    if not is_launched():
        return Place(0, 1, choose_device(values))

    from maskformer_ext.engine.distributed import start_processes

    accelerator = start_processes()
    return Place(accelerator.process_index, accelerator.num_processes, accelerator.device)
