"""One process or many: start them through accelerate, reduce the few numbers that they share."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskformer_ext.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

_TIMEOUT_SECONDS = 600


def start_processes() -> Accelerator:
    """Join the process group that ``torchrun`` describes, or run alone.

    A collective that waits longer than ten minutes for another process ends the job. A machine that disappears thus
    cannot leave the others waiting for ever. ``MASKFORMER_EXT_TIMEOUT`` sets another number of seconds.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    text = os.environ.get("MASKFORMER_EXT_TIMEOUT", str(_TIMEOUT_SECONDS))
    if not text.isdigit() or int(text) == 0:
        raise UserError(f"MASKFORMER_EXT_TIMEOUT must be a number of seconds above 0, got {text!r}")
    return Accelerator(
        cpu=not torch.accelerator.is_available(),  # without this, accelerate ignores torchrun where there is no GPU
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=timedelta(seconds=int(text))),
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
        ],
    )


@contextlib.contextmanager
def explain_lost_processes(go_on: Callable[[], str]) -> Iterator[None]:
    """Turn the error of a collective whose partner is gone into one sentence.

    Args:
        go_on: called after such an error; says how the work can go on.

    Raises:
        UserError: if another process was killed, failed, or did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.distributed.DistError) or "/gloo/" in str(error)):
            raise
        number, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        # gloo begins with a file of its source and ends with advice to its own developers
        reason = re.sub(r"^\[\S*\] ", "", str(error).splitlines()[0]).partition(". ")[0]
        raise UserError(
            f"process {number} of {world} lost another one, which was killed, failed or is out of reach ({reason}): "
            f"torchrun names the first that ended; {go_on()}"
        ) from error


def stop_processes() -> None:
    """Leave the process group, if there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class StopVote:
    """Agree over all processes on when to stop, without a message of its own and without waiting for a GPU.

    The votes travel with the number of segments, which has to be summed over the processes in any case. Every process
    reads the same sums, in the same step.

    Args:
        processes: how many processes train together.
        wish: called in every step: what this process wants (NONE, OVER: its time is over, INTERRUPTED: a signal came).
    """

    NONE, OVER, INTERRUPTED = 0, 1, 2
    _OUTCOMES = (OVER, INTERRUPTED)

    def __init__(self, processes: int, wish: Callable[[], int]) -> None:
        self._processes, self._wish = processes, wish
        self._sums: list[Tensor] = []

    def num_masks(self, segments: Tensor) -> Tensor:
        """Average the number of segments over the processes, at least 1, and send the vote along.

        Args:
            segments: 0-dim integer, the segments in the micro-batch of this process.

        Returns:
            0-dim float32 on the same device: what mask losses are divided by.
        """
        if self._processes == 1:
            return segments.float().clamp(min=1)
        wish = self._wish()
        # filled, not made of a list: that would be copied to the GPU, and waited for
        votes = [segments.new_full((1,), wish == outcome, dtype=torch.float32) for outcome in self._OUTCOMES]
        sums = torch.cat([segments.float().view(1), *votes])
        torch.distributed.all_reduce(sums)
        self._sums.append(sums)
        return (sums[0] / self._processes).clamp(min=1)

    def read(self) -> int:
        """Return OVER or INTERRUPTED as soon as one process has voted for it, otherwise NONE."""
        if self._processes == 1:
            return self._wish()
        over, interrupted = torch.stack(self._sums).amax(0)[1:].tolist()
        self._sums.clear()
        return self.INTERRUPTED if interrupted else self.OVER if over else self.NONE


def mean_over_processes(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Average numbers over all processes, which must have the same keys; waits for the device."""
    if not torch.distributed.is_initialized():
        return values
    sums = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    torch.distributed.all_reduce(sums)
    return dict(zip(values, (sums / torch.distributed.get_world_size()).tolist(), strict=True))


def union_over_processes(sentences: list[str]) -> set[str]:
    """Collect the different sentences of all processes."""
    if not torch.distributed.is_initialized():
        return set(sentences)
    gathered: list[list[str]] = [[]] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, sentences)
    return {sentence for part in gathered for sentence in part}


def step_seed(seed: int, iteration: int, micro_step: int, rank: int) -> int:
    """Mix the position in the run into one 63-bit seed.

    The random numbers of a step (dropout, drop path) are a pure function of it. A resumed run draws the same ones,
    though no generator's state is stored.

    Source: the mixing function of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators").
    """
    state = 0
    for part in (seed, iteration, micro_step, rank):
        state = (state + part + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state >> 1
