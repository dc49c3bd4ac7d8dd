"""Check a data set, draw samples of it, convert public ones: ``maskformer-ext prepare FOLDER``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskformer_ext.cli.arguments import choice, split_arguments, whole_number
from maskformer_ext.cli.command import run_command
from maskformer_ext.cli.hints import print_next, shell
from maskformer_ext.config import Config, DataConfig
from maskformer_ext.config.load import available_configs, load_config, override_config
from maskformer_ext.config.values import nearest_hint
from maskformer_ext.data.catalog import CATALOG, FOLDER, canonical_name
from maskformer_ext.data.preparing.request import Request
from maskformer_ext.data.preparing.run import prepare
from maskformer_ext.data.recognition import load_run_config, plain_name, recipe_of_task
from maskformer_ext.errors import UserError, printable

_HELP = """usage: maskformer-ext prepare FOLDER [key=value ...]
       maskformer-ext prepare NAME ROOT [key=value ...]
       maskformer-ext prepare config=RECIPE [data.root=ROOT] [key=value ...]

Check the folder of a data set and report what is missing or wrong. Of your own images, also report how many images and
pixels each class has, how much is void, how large images are, which occur twice, and what looks like a slip. Then look
at the contact sheet: it shows labels, and what training will see. Files of public data sets are converted where that
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
  sheet=FILE.png  where a contact sheet of own data goes: labelled samples, and samples as training sees them;
                  by default output/FOLDER_samples.png; none: do not draw it

A conversion that was interrupted goes on where it stopped. The exit status is 0 where all is well, 1 where something is
missing or wrong, 2 after a mistake in the arguments."""

_OWN = {
    "config": None,
    "split": "both",
    "files": "100",
    "convert": "faster",
    "workers": "2",
    "report": None,
    "sheet": None,
}
_BREAK = "\n" + " " * 18
_SPLITS = {"both": ("train", "val"), "train": ("train",), "val": ("val",)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 where the data set has problems, 2 after a problem with the arguments."""
    return run_command(_prepare, _help, arguments)


def _prepare(arguments: list[str]) -> int:
    values, others = split_arguments([argument for argument in arguments if "=" in argument], _OWN)
    places = [argument for argument in arguments if "=" not in argument]
    config = _config(values["config"], places, others)
    sheet = _sheet(values["sheet"] or "", config)
    request = Request(
        config=config.data,
        splits=_SPLITS[choice(values, "split", tuple(_SPLITS))],
        files=None if values["files"] == "all" else whole_number(values, "files", "all or a whole number"),
        convert=choice(values, "convert", ("faster", "all", "none")),
        workers=whole_number(values, "workers"),
        track=_track,
        draw=lambda splits: _draw(config, splits, sheet),
    )
    status = prepare(request, values["report"])
    if status == 0:
        recipe = FOLDER if len(places) == 1 else values["config"]
        print_next([_training(recipe, request.config, others)])
    return status


def _training(recipe: str | None, data: DataConfig, overrides: Sequence[str]) -> str:
    """Return the command that trains on what was checked.

    Args:
        recipe: that the user named; None: one for this data set.
        data: its section.
        overrides: the keys below ``data`` that were given.
    """
    keys = [] if data.root is None else [f"data.root={data.root}"]
    keys += [override for override in overrides if not override.startswith("data.root=")]
    if recipe is None:
        name = canonical_name(data.name)
        known = [known for known in available_configs() if canonical_name(known.partition("/")[0]) == name]
        recipe = next((known for known in known if "maskformer_" in known and "R50" in known), (known or [""])[0])
        if not recipe:
            recipe, keys = "instance_folder", [f"data.name={name}", *keys]
    return " ".join(["train", *map(shell, [f"config={recipe}", *keys])])


def _help() -> str:
    own = " or ".join(name for name, description in CATALOG.items() if description.own_classes)
    others = sorted(name for name, description in CATALOG.items() if description.folder)
    text = f"{own}, your own images; or one of {', '.join(others)}; public ones also with hyphens and the number of "
    names = textwrap.wrap(f"{text}classes, such as ade20k-150", 102, break_on_hyphens=False)
    faster = ", ".join(name for name, found in CATALOG.items() if found.conversion and found.conversion.faster)
    return _HELP.format(faster=faster, names=f"  NAME            {_BREAK.join(names)}")


def _config(recipe: str | None, positional: list[str], overrides: list[str]) -> Config:
    """Return the configuration that the arguments mean: a recipe, a folder, or NAME and ROOT."""
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
    if len(positional) == 1 and (Path(positional[0]).is_dir() or canonical_name(positional[0]) not in CATALOG):
        return _recognised(FOLDER, [f"data.root={positional[0]}", *overrides])
    if len(positional) == 1:
        raise UserError(f"{positional[0]} is a data set: give its folder too, as in prepare {positional[0]} ROOT")
    if len(positional) != 2:
        raise UserError(f"expected a folder, or NAME and ROOT, got {' '.join(positional) or 'neither'}")
    name = canonical_name(positional[0])
    if name not in CATALOG:
        hint = nearest_hint(name, CATALOG)
        raise UserError(f"unknown data set {positional[0]!r}{hint}: expected one of {', '.join(sorted(CATALOG))}")
    task = CATALOG[name].usual_task
    recipe = recipe_of_task(task) if CATALOG[name].own_classes else name
    config = load_config(recipe) if recipe in available_configs() else Config()
    config = override_config(config, {"data.name": name, "data.root": positional[1], "data.task": task})
    return override_config(config, overrides)


def _recognised(recipe: str, overrides: list[str]) -> Config:
    config, recognition = load_run_config(recipe, overrides)
    if recognition is not None:
        print(printable(f"{config.data.root or config.data.train_json}: {recognition.said}"))
    return config


def _sheet(given: str, config: Config) -> Path | None:
    """Return where the contact sheet goes; None: nowhere."""
    if given == "none":
        return None
    if not given:
        return Path("output") / f"{plain_name(Path(config.data.root or config.data.name))}_samples.png"
    path = Path(given).expanduser()
    if path.suffix.lower() != ".png":
        raise UserError(f"sheet={given} must be a file that ends in .png, or none")
    if not path.parent.is_dir():
        raise UserError(f"sheet={given}: the folder {path.parent} does not exist")
    return path


def _draw(config: Config, splits: Mapping[str, Any], sheet: Path | None) -> None:
    """Draw samples of a data set, labelled and as training sees them."""
    if sheet is None or not any(checked.survey.looked for checked in splits.values()):
        return
    from maskformer_ext.engine.fitting import fit
    from maskformer_ext.media.images import write_png
    from maskformer_ext.pictures.contact_sheet import draw_contact_sheet

    train = splits.get("train")
    if train is not None and train.survey.looked:
        config, _ = fit(config, train.dataset, train.survey)
    write_png(draw_contact_sheet(splits, config), sheet)
    print(printable(f"look at {sheet}: labelled samples, and samples as training sees them"))


def _track(items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    """Show a progress bar while iterating, on a terminal."""
    from rich.progress import track

    return track(items, description=what, total=total, transient=True, disable=not sys.stdout.isatty())


if __name__ == "__main__":
    sys.exit(main())
