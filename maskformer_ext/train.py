"""Train a model: ``python -m maskformer_ext.train config=digits key=value ...``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from maskformer_ext.command import run_command
from maskformer_ext.config_help import describe_usage
from maskformer_ext.config_io import load_config
from maskformer_ext.errors import UserError

_PURPOSE = (
    "Train a model, score it, and write checkpoints, metrics.json and a results page below output_dir.\n"
    "Several GPUs or machines: start it with torchrun, for instance\n"
    "  torchrun --nproc-per-node 4 -m maskformer_ext.train config=digits"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 2 after a problem that the user can fix."""
    return run_command(_train, describe_usage("train", _PURPOSE), arguments)


def _train(arguments: list[str]) -> int:
    names = [argument.removeprefix("config=") for argument in arguments if argument.startswith("config=")]
    if len(names) > 1:
        raise UserError(f"config= is given {len(names)} times: {', '.join(names)}")
    config = load_config(
        names[0] if names else "digits", [argument for argument in arguments if not argument.startswith("config=")]
    )

    import torch

    from maskformer_ext.engine.loop import train
    from maskformer_ext.engine.results import METRICS_FILE, RESULTS_FILE
    from maskformer_ext.engine.signals import TrainingInterrupted

    try:
        train(config)
    except TrainingInterrupted as error:
        if os.environ.get("RANK", "0") == "0":
            print(error, file=sys.stderr)
        return 128 + error.signal_number
    except torch.OutOfMemoryError as error:
        raise UserError(
            "the GPU has too little memory: lower train.batch_size, raise train.accumulation_steps, or use "
            f"train.precision=bf16 ({str(error).split('. ')[0]})"
        ) from error
    if os.environ.get("RANK", "0") == "0":
        print(f"{config.output_dir}/{METRICS_FILE}\n{config.output_dir}/{RESULTS_FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
