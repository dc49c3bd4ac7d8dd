"""All commands from one place: ``maskformer-ext COMMAND ...``, which is ``python -m maskformer_ext COMMAND ...``."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from maskformer_ext import __version__
from maskformer_ext.cli.command import run_command
from maskformer_ext.errors import UserError, printable

COMMANDS = {
    "prepare": "maskformer_ext.prepare",
    "train": "maskformer_ext.train",
    "evaluate": "maskformer_ext.evaluate",
    "predict": "maskformer_ext.predict",
    "demo": "maskformer_ext.demo.command",
    "export": "maskformer_ext.export",
    "convert": "maskformer_ext.convert",
    "analyze": "maskformer_ext.analyze",
    "doctor": "maskformer_ext.cli.doctor",
}
"""The module of each command. It has ``main(arguments) -> int``, and the first words of its text say what it does."""

_GROUPS = {
    "Data and training": ("prepare", "train", "evaluate"),
    "Use a model": ("predict", "demo", "export"),
    "Weights and recipes": ("convert", "analyze"),
    "This machine": ("doctor",),
}
_EXAMPLES = """Examples:
  maskformer-ext predict checkpoint=facebook/maskformer-swin-tiny-ade input=photo.jpg output=predictions
  maskformer-ext train config=folder data.root=/my/images"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; without one, or for ``--help``, list the commands."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) == 2 and given[0] == "help" and given[1] in COMMANDS:
        given = [given[1], "--help"]
    if given[:1] and given[0] in COMMANDS:
        return import_module(COMMANDS[given[0]]).main(given[1:])
    return run_command(_without_command, describe_commands, given)


def describe_commands() -> str:
    """Return the list of commands, in groups, each with the first words of its module."""
    lines = []
    for group, names in _GROUPS.items():
        lines.append(f"{group}:")
        lines += [f"  {name:<10}{_purpose(COMMANDS[name])}" for name in names]
        lines.append("")
    listed = "\n".join(lines)
    return (
        f"maskformer-ext {__version__}: mask classification, trained and run on kernels of its own\n\n"
        "usage: maskformer-ext COMMAND [key=value ...]\n\n"
        f"{listed}\n{_EXAMPLES}\n\n"
        "maskformer-ext COMMAND --help explains a command, and maskformer-ext --version prints the version.\n"
        "Where the program is not on the PATH, python -m maskformer_ext does the same."
    )


def _purpose(module: str) -> str:
    """Return the first words of a module's text, without running the module and what it imports."""
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.partition(": ")[0].strip()


def _without_command(arguments: list[str]) -> int:
    first = arguments[0]
    if first in ("--version", "-V", "version"):
        print(__version__)
        return 0
    if "=" in first:
        raise UserError(f"the command is missing before {first!r:.80}: {_likely(first)}")
    import difflib

    near = difflib.get_close_matches(first.lower(), COMMANDS, n=1, cutoff=0.5)
    meant = printable(" ".join([*near, *arguments[1:]]))
    hint = f"did you mean maskformer-ext {meant}?" if near else f"the commands are {', '.join(COMMANDS)}"
    raise UserError(f"there is no command {first!r:.80}: {hint}")


def _likely(argument: str) -> str:
    """Return what somebody meant who gave keys without a command."""
    key = argument.partition("=")[0]
    likely = {"checkpoint": "predict", "input": "predict", "output": "predict"}.get(key, "train")
    return f"did you mean maskformer-ext {likely} {printable(argument)} ...?"


if __name__ == "__main__":
    sys.exit(main())
