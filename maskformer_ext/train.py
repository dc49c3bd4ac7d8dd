"""Train a model: ``python -m maskformer_ext.train config=digits key=value ...``."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from maskformer_ext.cli.command import run_command
from maskformer_ext.cli.early import check_run
from maskformer_ext.config.help import describe_usage
from maskformer_ext.config.load import available_configs
from maskformer_ext.data.recognition import load_run_config
from maskformer_ext.errors import UserError, printable

_PURPOSE = (
    "Train a model, score it, and write checkpoints, metrics.json and a results page below output_dir.\n"
    "Several GPUs or machines: start it with torchrun, for instance\n"
    "  torchrun --nproc-per-node 4 -m maskformer_ext.train config=digits"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 2 after a problem that the user can fix."""
    return run_command(_train, describe_usage("train", _PURPOSE), arguments)


def _train(arguments: list[str]) -> int:
    for argument in arguments:
        if "=" not in argument:
            raise UserError(_not_a_key(argument))
    names = [argument.removeprefix("config=") for argument in arguments if argument.startswith("config=")]
    if len(names) > 1:
        raise UserError(f"config= is given {len(names)} times: {', '.join(names)}")
    config, recognition = load_run_config(
        names[0] if names else "digits", [argument for argument in arguments if not argument.startswith("config=")]
    )
    check_run(config)
    if recognition is not None and os.environ.get("RANK", "0") == "0":
        print(printable(f"{config.data.root}: {recognition.said}"))

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


def _not_a_key(argument: str) -> str:
    """Return what an argument without ``=`` was probably meant to be."""
    if argument in available_configs() or Path(argument).suffix in (".yaml", ".yml") or Path(argument).is_dir():
        return f"{argument!r} is not of the form key=value: did you mean config={argument}?"
    near = difflib.get_close_matches(argument, available_configs(), n=1, cutoff=0.7)
    hint = f"did you mean config={near[0]}?" if near else "for instance config=digits or train.max_iters=1000"
    return f"{argument!r} is not of the form key=value: {hint}"


if __name__ == "__main__":
    sys.exit(main())
