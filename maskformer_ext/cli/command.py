"""How every command runs: its help, its errors as exit statuses, and a bar that shows how far it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from maskformer_ext.cli.extras import missing_package
from maskformer_ext.cli.output_streams import patient_output
from maskformer_ext.errors import UserError, printable, why


def run_command(
    command: Callable[[list[str]], int], help_text: str | Callable[[], str], arguments: Sequence[str] | None
) -> int:
    """Run a command and return its exit status: 2 after a problem that the user can fix, told in one line.

    A package that is not installed is such a problem. So the modules of commands import at their top only what a plain
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


def with_progress(
    what: str, work: Callable[[Callable[[int, int | None], None]], Any], *, rate: bool = False, shown: bool = True
) -> Any:
    """Run ``work(progress)`` and return its result; on a terminal ``progress(done, total)`` moves a bar.

    Args:
        what: is counted.
        work: calls ``progress`` as it goes on; what it prints appears above the bar. A total of None is not known.
        rate: also show how many there are per second.
        shown: False: there is no bar.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.3g}/s" if task.speed else "", style="cyan")

    columns: list[ProgressColumn] = [TextColumn(what), BarColumn(bar_width=30), MofNCompleteColumn()]
    columns += [Rate()] if rate else []
    with Progress(*columns, TimeRemainingColumn(), transient=True, disable=not (shown and sys.stdout.isatty())) as bar:
        task = bar.add_task(what, total=None)
        return work(lambda done, total: bar.update(task, completed=done, total=total))
