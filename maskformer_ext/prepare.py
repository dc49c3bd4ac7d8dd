"""Check a public data set and convert its files: ``python -m maskformer_ext.prepare NAME ROOT``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from maskformer_ext.command import run_command, split_arguments
from maskformer_ext.errors import UserError

_HELP = """usage: python -m maskformer_ext.prepare NAME ROOT [key=value ...]

Check the folder of a public data set, say what is missing or wrong, and convert its files where that helps.

  NAME            ade20k, ade20k_full, ade20k_panoptic, cityscapes, coco_instance, coco_panoptic, coco_stuff_10k or
                  mapillary_vistas; also with hyphens and the number of classes, such as ade20k-150
  ROOT            the folder of the data set, or the one around it (docs/data.md shows the layouts)
  split=both      train, val or both
  files=100       how many samples of each split are read in full, evenly spread; all reads every file, 0 none
  convert=faster  faster: what this package loads faster than the files as distributed (ade20k_full, coco_stuff_10k);
                  all: also what other tools expect; none: only check
  workers=2       processes
  report=FILE     write every problem to a file, one a line

A conversion that was interrupted goes on where it stopped. The exit status is 0 where all is well, 1 where something is
missing or wrong, 2 after a mistake in the arguments."""

_OWN = {"split": "both", "files": "100", "convert": "faster", "workers": "2", "report": None}
_SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 where the data set has problems, 2 after a problem with the arguments."""
    return run_command(_prepare, _HELP, arguments)


def _prepare(arguments: list[str]) -> int:
    values, others = split_arguments([argument for argument in arguments if "=" in argument], _OWN)
    positional = [argument for argument in arguments if "=" not in argument]
    if others:
        raise UserError(f"{others[0]!r} is not a key of this command: the keys are {', '.join(_OWN)}")
    if len(positional) != 2:
        raise UserError(f"expected NAME and ROOT, got {' '.join(positional) or 'neither'}")
    splits = _choice(values, "split", {"both": ("train", "val"), "train": ("train",), "val": ("val",)})
    wanted = _choice(values, "convert", {"faster": "faster", "all": "all", "none": "none"})
    files = None if values["files"] == "all" else _count(values, "files")
    workers = _count(values, "workers")

    from maskformer_ext.data.locations import missing_paths
    from maskformer_ext.data.sources import SOURCES, canonical_name, source_root

    name = canonical_name(positional[0])
    if name not in SOURCES:
        raise UserError(f"unknown data set {positional[0]!r}: expected one of {', '.join(sorted(SOURCES))}")
    source, given = SOURCES[name], Path(positional[1]).expanduser()
    if not given.is_dir():
        raise UserError(f"the folder {given} is missing: give the folder of {name} (download: {source.download})")
    root = source_root(source, given)

    from maskformer_ext.data.conversions import CONVERSIONS  # brings torch

    conversion = CONVERSIONS.get(name)
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
        found = _check_split(source, root, split, files, workers)
        if not found and conversion is not None and (wanted == "all" or (wanted == "faster" and conversion.faster)):
            found = _convert_split(source, conversion, root, split, workers)
        problems += found
    return _report(problems, values["report"], name, root)


def _check_split(source: Any, root: Path, split: str, files: int | None, workers: int) -> list[str]:
    """Check one split and print a line about it; return what is wrong."""
    from maskformer_ext.data.check import ReadSample, run_jobs, spread

    try:
        dataset = source.build(root, split, source.tasks[0], True)
    except UserError as error:
        print(f"  {split}: cannot be read")
        return [str(error)]
    problems = list(dataset.problems)
    indices = spread(len(dataset), files)
    problems += [p for _, p in _track(run_jobs(ReadSample(dataset), indices, workers), len(indices), split) if p]
    expected = source.images[split]
    of = "images" if len(dataset) == expected else f"of the {expected} images distributed"
    print(f"  {split}: {len(dataset)} {of}, {len(indices)} read, {len(problems)} problem{'s' * (len(problems) != 1)}")
    return problems


def _convert_split(source: Any, conversion: Any, root: Path, split: str, workers: int) -> list[str]:
    """Convert one split and print a line about it; return what went wrong."""
    from maskformer_ext.data.check import run_jobs

    if conversion.is_done(root, split):
        print(f"  {split}: {conversion.what} are there")
        return []
    dataset = source.build(root, split, conversion.task, False)
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
        print(f"problem: {' '.join(problem.split())}", file=sys.stderr)
    if len(problems) > _SHOWN:
        more = "" if report else "; report=FILE writes all of them"
        print(f"and {len(problems) - _SHOWN} more problems{more}", file=sys.stderr)
    if report:
        path = Path(report).expanduser()
        if not path.parent.is_dir():
            raise UserError(f"report={report}: the folder {path.parent} does not exist")
        path.write_text("".join(f"{' '.join(problem.split())}\n" for problem in problems), encoding="utf-8")
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
