"""Check this installation: ``maskformer-ext doctor [json=FILE]``."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from maskformer_ext.cli.arguments import boolean, new_file, split_arguments
from maskformer_ext.cli.command import run_command
from maskformer_ext.cli.health.findings import OK, TROUBLE, Section, as_json, troubles
from maskformer_ext.cli.health.machine import look_at_machine, look_at_variables
from maskformer_ext.cli.health.packages import look_at_packages
from maskformer_ext.files import write_json

_HELP = """usage: maskformer-ext doctor [json=FILE] [--json] [self_test=false]

Say what is installed, which kernels run here, and what to do where something does not work.

  packages    Python, torch and NumPy, and which optional packages each extra has or lacks
  kernels     the processor's instruction sets and the one in use, the native libraries, and each GPU: whether torch
              reaches it, the driver is new enough, and the library has code for it
  machine     threads, memory, free disk, and the MASKFORMER_EXT_* variables that are set
  self-test   every op against its PyTorch reference in float32, float16 and bfloat16, on the CPU and on each GPU, and
              one small model from an image to its classes

  json=FILE         also write everything to a file, for a bug report
  --json            print everything as JSON, and nothing else
  self_test=true    false leaves the self-test out

The exit status is 0 where everything works, 1 where something does not, 2 after a mistake in the arguments."""

_OWN = {"json": None, "self_test": "true"}
_MARKS = {"ok": "ok", "note": "note", "trouble": "FAILS"}
_LEAST_ROOM = 24  # columns for a text
_STYLES = {"ok": "green", "note": "yellow", "trouble": "bold red"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 where something does not work, 2 after a mistake in the arguments."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_command(_doctor, _HELP, given or ["self_test=true"])  # no argument means all of it here, not the help


def _doctor(arguments: list[str]) -> int:
    machine_readable = "--json" in arguments
    values, _ = split_arguments([argument for argument in arguments if argument != "--json"], _OWN, sections=())
    self_test = boolean(values, "self_test")
    file = new_file(values, "json") if values["json"] is not None else None
    show: Callable[[str, str], None] = (lambda line, style: None) if machine_readable else _printer()
    sections: list[Section] = []
    for section in _examine(self_test, quiet=machine_readable):
        sections.append(section)
        _show(section, show)
    report = as_json(sections)
    if machine_readable:
        print(json.dumps(report, indent=2))
    wrong = troubles(sections)
    show("", "")
    for fact in wrong:
        show(f"{fact.name} fails: {fact.remedy}", _STYLES[TROUBLE])
    if not wrong:
        show("Everything that was looked at works.", _STYLES[OK])
    if file is not None:
        write_json(file, report)
        if not machine_readable:
            print(file)
    return int(bool(wrong))


def _examine(self_test: bool, *, quiet: bool) -> Iterator[Section]:
    """Yield what is found, one section after the other, as far as what was found so far lets it go on."""
    packages = look_at_packages()
    yield from packages
    yield look_at_variables()
    if any(fact.name in ("torch", "numpy") for fact in troubles(packages)):
        return  # the rest needs them
    from maskformer_ext.cli.health.kernels import look_at_kernels

    yield look_at_machine()
    kernels, gpus = look_at_kernels()
    yield kernels
    if not self_test or any(fact.name == "CPU library" for fact in troubles([kernels])):
        return  # without the library no op runs but under MASKFORMER_EXT_REFERENCE=1
    from maskformer_ext.cli.health.self_test import check_model, check_ops

    for device in ("cpu", *(f"cuda:{index}" for index in gpus)):
        with _waiting(f"self-test of ops ({device})", quiet):
            section = check_ops(device)
        yield section
    with _waiting("self-test of a model", quiet):
        section = check_model()
    yield section


def _show(section: Section, show: Callable[[str, str], None]) -> None:
    width = max(len(fact.name) for fact in section.facts)
    show("", "")
    show(section.title, "bold")
    for fact in section.facts:
        style = "" if fact.state == OK else _STYLES[fact.state]
        _show_wrapped(f"  {_MARKS[fact.state]:<6}{fact.name:<{width}}  ", fact.value, style, show)
        if fact.remedy:
            _show_wrapped(f"  {'':<6}{'':<{width}}  -> ", fact.remedy, style, show)


def _show_wrapped(start: str, text: str, style: str, show: Callable[[str, str], None]) -> None:
    """Show a text after a start; on a terminal it goes on below itself where a line ends."""
    room = shutil.get_terminal_size().columns - len(start) if sys.stdout.isatty() else 0
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) if room >= _LEAST_ROOM else [text]
    for number, line in enumerate(lines or [""]):
        show((start if number == 0 else " " * len(start)) + line, style)


def _printer() -> Callable[[str, str], None]:
    """Return what prints a line: in colours on a terminal, where rich is installed."""
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        return lambda line, style: print(line)
    console = Console(highlight=False)
    return lambda line, style: console.print(Text(line, style), soft_wrap=True)


def _waiting(what: str, quiet: bool) -> AbstractContextManager:
    if quiet or not sys.stdout.isatty():
        return nullcontext()
    try:
        from rich.console import Console
    except ImportError:
        return nullcontext()
    return Console().status(what)


if __name__ == "__main__":
    sys.exit(main())
