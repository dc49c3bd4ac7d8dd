"""Check a data set, and convert a public one's files: ``python -m maskformer_ext.prepare NAME ROOT``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from maskformer_ext.cli.arguments import split_arguments
from maskformer_ext.cli.command import run_command
from maskformer_ext.config import DataConfig
from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import write_text

_HELP = """usage: python -m maskformer_ext.prepare NAME ROOT [key=value ...]
       python -m maskformer_ext.prepare config=RECIPE [data.root=ROOT] [key=value ...]

Check the folder of a data set and say what is missing or wrong: of your own images also which classes own how many
pixels, how much is void, and how large the images are. Files of public data sets are converted where that helps.

  NAME            semantic_folder or instance_folder, your own images; or a public data set: ade20k, ade20k_full,
                  ade20k_panoptic, cityscapes, coco_instance, coco_panoptic, coco_stuff_10k, mapillary_vistas, camvid or
                  nuclei; also with hyphens and the number of classes, such as ade20k-150
  ROOT            the folder of the data set, or the one around it (docs/data.md shows the layouts)
  config=RECIPE   a recipe, a YAML file or a run, for its data section; keys below data can be given with either form,
                  for instance data.task=panoptic or data.train_labels=masks/a
  split=both      train, val or both
  files=100       how many samples of each split are read in full, evenly spread; all reads every file, 0 none
  convert=faster  faster: what this package loads faster than the files as distributed (ade20k_full, coco_stuff_10k);
                  all: also what other tools expect; none: only check
  workers=2       processes
  report=FILE     write every problem to a file, one a line

A conversion that was interrupted goes on where it stopped. The exit status is 0 where all is well, 1 where something is
missing or wrong, 2 after a mistake in the arguments."""

_OWN = {"config": None, "split": "both", "files": "100", "convert": "faster", "workers": "2", "report": None}
_SHOWN = 20
_USUAL_TASK = {"instance_folder": "instance", "nuclei": "panoptic"}  # of recipes; else the first that is served


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 where the data set has problems, 2 after a problem with the arguments."""
    return run_command(_prepare, _HELP, arguments)


def _prepare(arguments: list[str]) -> int:
    values, others = split_arguments([argument for argument in arguments if "=" in argument], _OWN)
    config = _data_config(values["config"], [argument for argument in arguments if "=" not in argument], others)
    splits = _choice(values, "split", {"both": ("train", "val"), "train": ("train",), "val": ("val",)})
    wanted = _choice(values, "convert", {"faster": "faster", "all": "all", "none": "none"})
    files = None if values["files"] == "all" else _count(values, "files")
    workers = _count(values, "workers")

    from maskformer_ext.data.locations import check_name, find_root, missing_paths
    from maskformer_ext.data.sources import SOURCES, source_root

    name = check_name(config)
    if name == "digits":
        raise UserError("digits are generated: there is no folder to check")
    if name not in SOURCES:
        return _check_own(config, find_root(config), splits, files, workers, values["report"])
    source, given = SOURCES[name], Path(config.root).expanduser() if config.root else find_root(config)
    if not given.is_dir():
        raise UserError(f"the folder {given} is missing: give the folder of {name} (download: {source.download})")
    root = source_root(source, given)

    from maskformer_ext.data.conversions import CONVERSIONS  # brings torch
    from maskformer_ext.media.decoding import limit_pixels

    conversion = CONVERSIONS.get(name)
    limit_pixels(config.max_pixels or None)
    print(f"{source.title}: {root}")
    problems = missing_paths(source, root, splits)
    if problems:
        print(f"  download: {source.download}")
        above = next(
            (folder for folder in root.resolve().parents[:2] if not missing_paths(source, folder, splits)), None
        )
        if above is not None:
            print(f"  {above} has all that is missing: give that folder")
    for split in splits:
        if missing_paths(source, root, [split]):
            print(f"  {split}: incomplete, not checked further")
            continue
        found = _check_split(source, root, split, files, workers, config.exif)
        if not found and conversion is not None and (wanted == "all" or (wanted == "faster" and conversion.faster)):
            found = _convert_split(source, conversion, root, split, workers, config.exif)
        problems += found
    return _report(problems, values["report"], name, root)


def _data_config(recipe: str | None, positional: list[str], overrides: list[str]) -> DataConfig:
    """Return the data section that the arguments mean: of a recipe, or NAME and ROOT."""
    from maskformer_ext.config import Config
    from maskformer_ext.config.load import load_config, override_config
    from maskformer_ext.data.locations import TASKS_OF
    from maskformer_ext.data.sources import canonical_name

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
        return load_config(recipe, overrides).data
    if len(positional) != 2:
        raise UserError(f"expected NAME and ROOT, got {' '.join(positional) or 'neither'}")
    name = canonical_name(positional[0])
    if name not in TASKS_OF:
        raise UserError(f"unknown data set {positional[0]!r}: expected one of {', '.join(sorted(TASKS_OF))}")
    task = _USUAL_TASK.get(name, TASKS_OF[name][0])
    config = override_config(Config(), {"data.name": name, "data.root": positional[1], "data.task": task})
    return override_config(config, overrides).data


def _check_own(
    config: DataConfig, root: Path, splits: tuple[str, ...], files: int | None, workers: int, report: str | None
) -> int:
    """Check a data set in folders and print what it holds."""
    from maskformer_ext.data.folder_check import check_folder

    print(f"{config.name} ({config.task}): {root}")
    problems, warnings = check_folder(config, splits, files, workers, _track)
    for warning in warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    return _report(problems, report, config.name, root)


def _check_split(source: Any, root: Path, split: str, files: int | None, workers: int, exif: bool) -> list[str]:
    """Check one split and print a line about it; return what is wrong."""
    from maskformer_ext.data.check import ReadSample, run_jobs, spread

    try:
        dataset = source.build(root, split, source.tasks[0], True)
    except UserError as error:
        print(f"  {split}: cannot be read")
        return [str(error)]
    dataset.exif = exif
    problems = list(dataset.problems)
    indices = spread(len(dataset), files)
    problems += [p for _, p in _track(run_jobs(ReadSample(dataset), indices, workers), len(indices), split) if p]
    expected = source.images[split]
    of = "images" if len(dataset) == expected else f"of the {expected} images distributed"
    print(f"  {split}: {len(dataset)} {of}, {len(indices)} read, {len(problems)} problem{'s' * (len(problems) != 1)}")
    return problems


def _convert_split(source: Any, conversion: Any, root: Path, split: str, workers: int, exif: bool) -> list[str]:
    """Convert one split and print a line about it; return what went wrong."""
    from maskformer_ext.data.check import run_jobs

    if conversion.is_done(root, split):
        print(f"  {split}: {conversion.what} are there")
        return []
    dataset = source.build(root, split, conversion.task, False)
    dataset.exif = exif
    jobs = run_jobs(conversion.job(dataset, root, split), range(len(dataset)), workers)
    results = list(_track(jobs, len(dataset), f"{split}: {conversion.what}"))
    problems = [problem for _, problem in results if problem]
    if problems:
        print(f"  {split}: {conversion.what} not finished; correct the files and run the command again")
        return problems
    conversion.complete(root, split)
    if conversion.finish is not None:
        conversion.finish(dataset, root, split, [result for result, _ in results])
    print(f"  {split}: {conversion.what} written")
    return []


def _report(problems: list[str], report: str | None, name: str, root: Path) -> int:
    for problem in problems[:_SHOWN]:
        print(f"problem: {printable(problem)}", file=sys.stderr)
    if len(problems) > _SHOWN:
        more = "" if report else "; report=FILE writes all of them"
        print(f"and {len(problems) - _SHOWN} more problems{more}", file=sys.stderr)
    if report:
        path = Path(report).expanduser()
        if not path.parent.is_dir():
            raise UserError(f"report={report}: the folder {path.parent} does not exist")
        write_text(path, "".join(f"{printable(problem)}\n" for problem in problems))
        print(path)
    if not problems:
        print(f"ready: data.name={name} data.root={root}")
    return 1 if problems else 0


def _track(items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    """Show a progress bar while iterating, on a terminal."""
    from rich.progress import track

    return track(items, description=what, total=total, transient=True, disable=not sys.stdout.isatty())


def _choice(values: dict[str, str | None], key: str, choices: dict[str, Any]) -> Any:
    value = str(values[key])
    if value not in choices:
        raise UserError(f"{key} must be {' or '.join(choices)}, got {value!r}")
    return choices[value]


def _count(values: dict[str, str | None], key: str) -> int:
    value = str(values[key])
    if not value.isdecimal():
        raise UserError(f"{key} must be a whole number{' or all' if key == 'files' else ''}, got {value!r}")
    return int(value)


if __name__ == "__main__":
    sys.exit(main())
