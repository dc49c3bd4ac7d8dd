"""All commands from one place: ``python -m maskformer_ext [COMMAND ...]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from maskformer_ext import __version__
from maskformer_ext.cli.command import run_command
from maskformer_ext.config.values import check_choice

COMMANDS = ("train", "evaluate", "predict", "convert", "prepare", "export", "analyze")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; without one, or for ``--help``, list the commands."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] and given[0] in COMMANDS:
        return import_module(f"maskformer_ext.{given[0]}").main(given[1:])
    return run_command(_without_command, describe_commands, given)


def describe_commands() -> str:
    """Return the list of commands: the first words of each module, which says more with ``--help``."""
    lines = []
    for name in COMMANDS:
        documentation = import_module(f"maskformer_ext.{name}").__doc__ or ""
        lines.append(f"  {name:<10}{documentation.partition(': ')[0].strip()}")
    listed = "\n".join(lines)
    return (
        f"maskformer-ext {__version__}\n\n"
        "usage: python -m maskformer_ext COMMAND ...\n\n"
        f"{listed}\n\n"
        "python -m maskformer_ext COMMAND --help explains one; python -m maskformer_ext --version prints the version."
    )


def _without_command(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(__version__)
        return 0
    check_choice("COMMAND", arguments[0], COMMANDS)
    return 2


if __name__ == "__main__":
    sys.exit(main())
