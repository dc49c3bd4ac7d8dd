"""Check and convert a public data set: which paths are missing, which files are wrong, what loads faster."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from maskformer_ext.config import DataConfig
from maskformer_ext.data.build import build_dataset
from maskformer_ext.data.description import Conversion, Description, Distribution
from maskformer_ext.data.locations import missing_paths
from maskformer_ext.data.preparing.jobs import ReadSample, run_jobs, spread
from maskformer_ext.data.preparing.request import Request
from maskformer_ext.errors import UserError


def check_public(request: Request, description: Description, public: Distribution, root: Path) -> list[str]:
    """Check a public data set and convert the splits without problems; print what is found.

    Args:
        request: what to check and to convert.
        description: of the data set.
        public: how it is distributed.
        root: its folder.

    Returns:
        What is wrong, one sentence each.
    """
    conversion = description.conversion
    print(f"{description.title}: {root}")
    problems = missing_paths(public, root, request.splits)
    if problems:
        print(f"  download: {public.download}")
        above = (folder for folder in root.resolve().parents[:2] if not missing_paths(public, folder, request.splits))
        if (better := next(above, None)) is not None:
            print(f"  {better} has all that is missing: give that folder")
    for split in request.splits:
        if missing_paths(public, root, [split]):
            print(f"  {split}: incomplete, not checked further")
            continue
        found = _check_split(request, description.usual_task, public, root, split)
        wanted = request.convert == "all" or (request.convert == "faster" and conversion and conversion.faster)
        if not found and conversion is not None and wanted:
            found = _convert_split(request, conversion, root, split)
        problems += found
    return problems


def _check_split(request: Request, task: str, public: Distribution, root: Path, split: str) -> list[str]:
    """Check one split and print a line about it; return what is wrong."""
    try:
        dataset = build_dataset(_config(request, root, task, "skip"), split)
    except UserError as error:
        print(f"  {split}: cannot be read")
        return [str(error)]
    problems = list(getattr(dataset, "problems", ()))
    indices = spread(len(dataset), request.files)
    jobs = run_jobs(ReadSample(dataset), indices, request.workers)
    problems += [problem for _, problem in request.track(jobs, len(indices), split) if problem]
    expected = public.images[split]
    of = "images" if len(dataset) == expected else f"of the {expected} images distributed"
    print(f"  {split}: {len(dataset)} {of}, {len(indices)} read, {len(problems)} problem{'s' * (len(problems) != 1)}")
    return problems


def _convert_split(request: Request, conversion: Conversion, root: Path, split: str) -> list[str]:
    """Convert one split and print a line about it; return what went wrong."""
    if conversion.is_done(root, split):
        print(f"  {split}: {conversion.what} are there")
        return []
    dataset = build_dataset(_config(request, root, conversion.task, "raise"), split)
    jobs = run_jobs(conversion.job(dataset, root, split), range(len(dataset)), request.workers)
    results = list(request.track(jobs, len(dataset), f"{split}: {conversion.what}"))
    problems = [problem for _, problem in results if problem]
    if problems:
        print(f"  {split}: {conversion.what} not finished; correct the files and run the command again")
        return problems
    conversion.complete(root, split)
    if conversion.finish is not None:
        conversion.finish(dataset, root, split, [result for result, _ in results])
    print(f"  {split}: {conversion.what} written")
    return []


def _config(request: Request, root: Path, task: str, on_error: str) -> DataConfig:
    return dataclasses.replace(request.config, root=str(root), task=task, on_error=on_error)
