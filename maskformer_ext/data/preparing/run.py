"""What `prepare` does with a data set: check its folder, convert its files, and report every problem."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from maskformer_ext.config import DataConfig
from maskformer_ext.data.catalog import CATALOG
from maskformer_ext.data.description import Description
from maskformer_ext.data.locations import check_name, find_root, source_root
from maskformer_ext.data.preparing.request import Request
from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import write_text

_SHOWN = 20


def prepare(request: Request, report: str | None) -> int:
    """Check a data set, convert its files where that is asked for, and print what is found.

    Args:
        request: what to check.
        report: a file for all problems, one per line; None: none.

    Returns:
        0, or 1 where the data set has problems.

    Raises:
        UserError: if the data set or its folder does not exist, or the report cannot be written.
    """
    name = check_name(request.config)
    description = CATALOG[name]
    public = description.distribution
    if description.generated:
        raise UserError(f"{name} are generated: there is no folder to check")
    if public is not None:
        root = _public_root(request.config, name, description, public.download)
        from maskformer_ext.data.preparing.public import check_public  # brings torch

        problems = check_public(request, description, public, root)
    else:
        root = find_root(request.config)
        from maskformer_ext.data.preparing.own_folders import check_folder  # brings torch

        print(f"{request.config.name} ({request.config.task}): {root}")
        splits, found = check_folder(request)
        problems = found.faults
        for warning in found.warnings:
            print(f"warning: {printable(warning)}", file=sys.stderr)
        request.draw(splits)
    _report(problems, report)
    if not problems:
        print(f"ready: data.name={name} {_quoted(f'data.root={root}')}{_folders(request.config)}")
    return 1 if problems else 0


def _folders(config: DataConfig) -> str:
    """Return the keys that say where images and labels lie, where that is not as usual."""
    keys = ("train_images", "train_labels", "val_images", "val_labels")
    return "".join(f" {_quoted(f'data.{key}={getattr(config, key)}')}" for key in keys if getattr(config, key))


def _quoted(text: str) -> str:
    """Return a key and its value as a shell takes it."""
    return printable(shlex.quote(text))


def _public_root(config: DataConfig, name: str, description: Description, download: str) -> Path:
    """Return the folder of a public data set; where it is missing, the error names the download."""
    given = Path(config.root).expanduser() if config.root else find_root(config)
    if not given.is_dir():
        raise UserError(f"the folder {given} is missing: give the folder of {name} (download: {download})")
    return source_root(description, given)


def _report(problems: list[str], report: str | None) -> None:
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
