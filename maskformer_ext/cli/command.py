"""What the commands share: reading ``key=value`` arguments, and turning errors into exit statuses."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from maskformer_ext.cli.extras import missing_package
from maskformer_ext.cli.output_streams import patient_output
from maskformer_ext.config import Config
from maskformer_ext.errors import UserError, printable, why


def run_command(
    command: Callable[[list[str]], int], help_text: str | Callable[[], str], arguments: Sequence[str] | None
) -> int:
    """Run a command and return its exit status: 2 after a problem that the user can fix, told in one line.

    A package that is not installed is such a problem; so the modules of commands import at their top what a plain
    installation has, and everything else inside ``command``. Nothing is lost where nobody reads the output any more.

    Args:
        command: gets the arguments, returns a status.
        help_text: printed for ``--help``, or where there are no arguments; or a function that makes it.
        arguments: None: those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with patient_output() as output:
        status = _status(command, help_text, given)
        output.flush()
        if output.problem is not None:
            print(f"error: what the command prints could not be written: {why(output.problem)}", file=sys.stderr)
        return status or int(output.problem is not None)


def _status(command: Callable[[list[str]], int], help_text: str | Callable[[], str], given: list[str]) -> int:
    try:
        if not given or any(argument in ("-h", "--help", "help") for argument in given):
            print(help_text if isinstance(help_text, str) else help_text())
            return 0 if given else 2
        return command(given)
    except UserError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        return 2
    except ImportError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        print(f"error: {missing}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


def split_arguments(arguments: Sequence[str], own: Mapping[str, str | None]) -> tuple[dict[str, str | None], list[str]]:
    """Separate a command's own keys from those of the configuration.

    Args:
        arguments: ``key=value`` texts.
        own: the command's keys and their defaults.

    Returns:
        The values of the command's keys, and the other arguments, whose keys hold a dot.

    Raises:
        UserError: if an argument is no ``key=value``, or names neither; it suggests the nearest key.
    """
    values = dict(own)
    others = []
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator or not key:
            raise UserError(f"{argument!r} is not of the form key=value, for instance {next(iter(own))}=...")
        if key in own:
            values[key] = value
        elif "." in key:
            others.append(argument)
        else:
            near = difflib.get_close_matches(key, own, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(own)}"
            raise UserError(f"unknown key {key!r}: {hint}")
    return values, others


def required(values: Mapping[str, str | None], key: str, meaning: str) -> str:
    """Return a value that must be there.

    Raises:
        UserError: if it is not.
    """
    value = values[key]
    if not value:
        raise UserError(f"{key}= is missing: give {meaning}")
    return value


def override_checkpoint(config: Config, overrides: Sequence[str]) -> Config:
    """Apply ``key=value`` to the configuration of a checkpoint.

    Raises:
        UserError: for a key or value that does not exist, and for keys below ``model``, which the weights decide.
    """
    from maskformer_ext.config.load import override_config

    for override in overrides:
        if override.startswith("model."):
            raise UserError(f"{override.partition('=')[0]} cannot be changed: the weights of the checkpoint decide it")
    return override_config(config, overrides)


def choose_device(name: str | None) -> str:
    """Return the device to run on: the named one, or a GPU where there is one.

    Raises:
        UserError: if the named device does not exist.
    """
    import torch

    if not name:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name} is not available: {why(error)}") from None
    return name


def with_progress(what: str, work: Callable[[Callable[[int, int], None]], Any]) -> Any:
    """Run ``work(progress)`` and return its result; on a terminal ``progress(done, total)`` moves a bar.

    Args:
        what: is counted.
        work: calls ``progress`` as it goes on; what it prints appears above the bar.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task(what, total=None)
        return work(lambda done, total: bar.update(task, completed=done, total=total))
