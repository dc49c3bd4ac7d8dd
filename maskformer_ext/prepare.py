"""Check a data set, and convert a public one's files: ``python -m maskformer_ext.prepare NAME ROOT``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from maskformer_ext.cli.arguments import choice, split_arguments, whole_number
from maskformer_ext.cli.command import run_command
from maskformer_ext.config import Config, DataConfig
from maskformer_ext.config.load import override_config
from maskformer_ext.config.values import nearest_hint
from maskformer_ext.data.catalog import CATALOG, FOLDER, canonical_name
from maskformer_ext.data.preparing.request import Request
from maskformer_ext.data.preparing.run import prepare
from maskformer_ext.data.recognition import load_run_config
from maskformer_ext.errors import UserError, printable

_HELP = """usage: python -m maskformer_ext.prepare FOLDER [key=value ...]
       python -m maskformer_ext.prepare NAME ROOT [key=value ...]
       python -m maskformer_ext.prepare config=RECIPE [data.root=ROOT] [key=value ...]

Check the folder of a data set and report what is missing or wrong. Of your own images, also report which classes own
how many pixels, how much is void, and how large the images are. Files of public data sets are converted where that
helps.

  FOLDER          your own images and labels, whatever their format: it is recognised, and said
{names}
  ROOT            the folder of the data set, or the one around it (docs/data.md shows the layouts)
  config=RECIPE   a recipe, a YAML file or a run, for its data section; keys below data can be given with either form,
                  for instance data.task=panoptic or data.train_labels=masks/a
  split=both      train, val or both
  files=100       how many samples of each split are read in full, evenly spread; all reads every file, 0 none
  convert=faster  faster: what this package loads faster than the files as distributed ({faster});
                  all: also what other tools expect; none: only check
  workers=2       processes
  report=FILE     write every problem to a file, one per line

A conversion that was interrupted goes on where it stopped. The exit status is 0 where all is well, 1 where something is
missing or wrong, 2 after a mistake in the arguments."""

_OWN = {"config": None, "split": "both", "files": "100", "convert": "faster", "workers": "2", "report": None}
_BREAK = "\n" + " " * 18
_SPLITS = {"both": ("train", "val"), "train": ("train",), "val": ("val",)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 where the data set has problems, 2 after a problem with the arguments."""
    return run_command(_prepare, _help, arguments)


def _prepare(arguments: list[str]) -> int:
    values, others = split_arguments([argument for argument in arguments if "=" in argument], _OWN)
    request = Request(
        config=_data_config(values["config"], [argument for argument in arguments if "=" not in argument], others),
        splits=_SPLITS[choice(values, "split", tuple(_SPLITS))],
        files=None if values["files"] == "all" else whole_number(values, "files", "all or a whole number"),
        convert=choice(values, "convert", ("faster", "all", "none")),
        workers=whole_number(values, "workers"),
        track=_track,
    )
    return prepare(request, values["report"])


def _help() -> str:
    own = " or ".join(name for name, description in CATALOG.items() if description.own_classes)
    others = sorted(name for name, description in CATALOG.items() if description.folder)
    text = f"{own}, your own images; or one of {', '.join(others)}; public ones also with hyphens and the number of "
    names = textwrap.wrap(f"{text}classes, such as ade20k-150", 102, break_on_hyphens=False)
    faster = ", ".join(name for name, found in CATALOG.items() if found.conversion and found.conversion.faster)
    return _HELP.format(faster=faster, names=f"  NAME            {_BREAK.join(names)}")


def _data_config(recipe: str | None, positional: list[str], overrides: list[str]) -> DataConfig:
    """Return the data section that the arguments mean: of a recipe, or NAME and ROOT."""
    for override in overrides:
        twice = recipe is None and override.startswith(("data.root=", "data.name="))
        if twice or not override.startswith("data."):
            given = " where NAME and ROOT are given" if twice else ""
            raise UserError(
                f"{override!r} is not a key of this command{given}: the keys are {', '.join(_OWN)} and those below data"
            )
    if recipe is not None:
        if positional:
            raise UserError(f"config= does not go with {' '.join(positional)}: give data.root=FOLDER")
        return _recognised(recipe, overrides)
    if len(positional) == 1 and canonical_name(positional[0]) not in CATALOG:
        return _recognised(FOLDER, [f"data.root={positional[0]}", *overrides])
    if len(positional) != 2:
        raise UserError(f"expected a folder, or NAME and ROOT, got {' '.join(positional) or 'neither'}")
    name = canonical_name(positional[0])
    if name not in CATALOG:
        hint = nearest_hint(name, CATALOG)
        raise UserError(f"unknown data set {positional[0]!r}{hint}: expected one of {', '.join(sorted(CATALOG))}")
    task = CATALOG[name].usual_task
    config = override_config(Config(), {"data.name": name, "data.root": positional[1], "data.task": task})
    return override_config(config, overrides).data


def _recognised(recipe: str, overrides: list[str]) -> DataConfig:
    config, recognition = load_run_config(recipe, overrides)
    if recognition is not None:
        print(printable(f"{config.data.root or config.data.train_json}: {recognition.said}"))
    return config.data


def _track(items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    """Show a progress bar while iterating, on a terminal."""
    from rich.progress import track

    return track(items, description=what, total=total, transient=True, disable=not sys.stdout.isatty())


if __name__ == "__main__":
    sys.exit(main())
