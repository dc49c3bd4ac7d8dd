"""Train a model: ``maskformer-ext train config=digits key=value ...``."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from maskformer_ext.cli.command import run_command
from maskformer_ext.cli.early import check_run
from maskformer_ext.cli.hints import print_next, shell, written_otherwise
from maskformer_ext.cli.threads import limit_spinning
from maskformer_ext.config.help import describe_usage
from maskformer_ext.config.load import available_configs
from maskformer_ext.config.values import HUB_ID
from maskformer_ext.data.catalog import FOLDER
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
    limit_spinning()
    given = any(argument.startswith("config=") for argument in arguments)
    if bare := [argument for argument in arguments if "=" not in argument]:
        written = written_otherwise(arguments)
        meant = _meant(bare, given) if written is None else f"did you mean {written}?"
        raise UserError(f"{bare[0]!r} is not of the form key=value: {meant}")
    names = [argument.removeprefix("config=") for argument in arguments if argument.startswith("config=")]
    if len(names) > 1:
        raise UserError(f"config= is given {len(names)} times: {', '.join(names)}")
    config, recognition = load_run_config(
        names[0] if names else "digits", [argument for argument in arguments if not argument.startswith("config=")]
    )
    check_run(config)
    if recognition is not None and os.environ.get("RANK", "0") == "0":
        print(printable(f"{config.data.root or config.data.train_json}: {recognition.said}"))

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
        _print_next(Path(config.output_dir))
    return 0


def _print_next(output: Path) -> None:
    """Print what one does with a model that has been trained."""
    model = f"checkpoint={shell(output)}"
    commands = [
        f"predict {model} input=photo.jpg output=predictions",
        f"demo {model}",
        f"evaluate {model}",
        f"export {model} output=model.onnx",
    ]
    print_next(commands)


def _meant(bare: list[str], given: bool) -> str:
    """Return what arguments without ``=`` were probably meant to be; ``given`` says that there is a recipe."""
    meant: dict[str, str] = {}
    for argument in bare:
        key, value = _meant_key(argument)
        if key == "data.root" and not given:
            meant.setdefault("config", FOLDER)
        if not key or (key in meant and meant[key] != FOLDER):
            return "for instance config=digits or train.max_iters=1000"
        meant[key] = value
    return f"did you mean {' '.join(f'{key}={shell(value)}' for key, value in sorted(meant.items()))}?"


def _meant_key(argument: str) -> tuple[str, str]:
    """Return the key that an argument looks like a value of, and the value: a recipe's, a run's, images', weights'."""
    path, recipes = Path(argument), available_configs()
    if argument in recipes or path.suffix in (".yaml", ".yml") or (path / "config.yaml").is_file():
        return "config", argument
    if path.is_dir() and not (path / "model.safetensors").is_file():
        return "data.root", argument
    if near := difflib.get_close_matches(argument, recipes, n=1, cutoff=0.7):
        return "config", near[0]
    if path.exists() or (HUB_ID.fullmatch(argument) and not path.is_absolute()):
        return "init_from", argument
    return "", argument


if __name__ == "__main__":
    sys.exit(main())
