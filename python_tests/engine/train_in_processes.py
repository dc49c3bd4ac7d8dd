"""What ``torchrun`` starts in the tests: the training command on synthetic batches, uneven over the processes."""

from __future__ import annotations

import os
import signal
import sys

from runs import GeneratedLoader, uneven_loader

from maskformer_ext import train as command
from maskformer_ext.engine import loop

_kill_at = [int(argument.split("=")[1]) for argument in sys.argv if argument.startswith("kill_rank_1_at=")]


def _batches(config, split, **options):
    for iteration, batch in enumerate(uneven_loader(config, split, **options), start=1):
        if iteration in _kill_at and options["rank"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch


def _loader(config, split, **options):
    return GeneratedLoader(_batches(config, split, **options))


loop.build_loader = _loader
sys.exit(command.main([argument for argument in sys.argv[1:] if not argument.startswith("kill_rank_1_at=")]))
