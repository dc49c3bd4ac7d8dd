"""Which format a folder of the user's own data has, and the whole configuration that trains on it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskformer_ext.config import Config, DataConfig
from maskformer_ext.config.load import load_config, override_config
from maskformer_ext.config.values import nearest_hint
from maskformer_ext.data.catalog import CATALOG, FOLDER, canonical_name
from maskformer_ext.data.description import Recognition
from maskformer_ext.data.layouts.unknown import look_at, refuse, refuse_file, refuse_several
from maskformer_ext.errors import UserError

_RECIPES = {"semantic": "semantic_folder", "instance": "instance_folder", "panoptic": "instance_folder"}


def recognise(root: Path, name: str | None = None) -> Recognition:
    """Find out what a folder of the user's own data holds.

    Args:
        root: the folder.
        name: the value of ``data.name``, where the user gives one; None: the format is found out, too.

    Raises:
        UserError: if the folder is missing or of no known format, fits several, holds several data sets, or is damaged.
    """
    if not root.is_dir():
        raise refuse_file(root)
    formats = {known: found.recognise for known, found in CATALOG.items() if found.recognise is not None}
    if name is not None:
        name = canonical_name(name)
        if name not in formats:
            hint = nearest_hint(name, formats)
            raise UserError(f"data.name={name} is no format of own data{hint}: give one of {', '.join(formats)}.")
        formats = {name: formats[name]}
    found, broken = [], {}
    for known, look in formats.items():
        try:
            recognition = look_at(root, look)
        except UserError as error:
            broken[known] = str(error)
            continue
        if recognition is not None:
            found.append(recognition)
    for one in found:
        if one.inside and (several := refuse_several(root, one.inside, formats)) is not None:
            raise several
    if len(found) > 1:
        fits = "; ".join(f"data.name={one.name} ({one.said})" for one in found)
        raise UserError(f"{root} fits {len(found)} formats. Say which is meant: {fits}.")
    if found and broken:
        kind, problem = next(iter(broken.items()))
        raise UserError(
            f"{root} fits data.name={found[0].name} ({found[0].said}). It looks like data.name={kind}, too, but "
            f"cannot be read as such. Give data.name={found[0].name} if that is meant, else mend it: {problem}"
        )
    if broken:
        raise UserError(next(iter(broken.values())))
    if not found:
        raise refuse(root, name, formats)
    return found[0]


def recognise_given(config: DataConfig) -> Recognition | None:
    """Return what a configuration gives that names files itself; None where a folder has to be looked at.

    Raises:
        UserError: if those files are missing or damaged.
    """
    for name, known in CATALOG.items():
        if known.recognise_given is None or config.name not in (FOLDER, name):
            continue
        if (found := known.recognise_given(config)) is not None:
            return found
    return None


def load_run_config(name: str, overrides: Sequence[str]) -> tuple[Config, Recognition | None]:
    """Read a recipe as `load_config` does; for ``folder``, the one that fits what lies in ``data.root``.

    Args:
        name: of a recipe, a YAML file or a run.
        overrides: ``key=value`` texts.

    Returns:
        The configuration, which names the format in ``data.name``, and what was recognised; None for other recipes.

    Raises:
        UserError: as `load_config` and `recognise`, and if ``folder`` comes without ``data.root``.
    """
    if name != FOLDER:
        return load_config(name, overrides), None
    given = load_config(FOLDER, overrides).data
    recognition = recognise_given(given)
    if recognition is None and not given.root:
        raise UserError(f"config={FOLDER} needs data.root=PATH, the folder of your images and labels.")
    if recognition is None:
        recognition = recognise(Path(given.root or "").expanduser(), None if given.name == FOLDER else given.name)
    keys = {override.partition("=")[0] for override in overrides}
    task = given.task if "data.task" in keys else recognition.task
    found: dict[str, Any] = {"name": recognition.name, "task": task, **recognition.keys}
    called = plain_name(Path(given.root or given.train_json))
    values = {f"data.{key}": value for key, value in found.items() if f"data.{key}" not in keys}
    values |= {"name": called, "output_dir": f"output/{called}"}
    return override_config(load_config(recipe_of_task(task), values), overrides), recognition


def recipe_of_task(task: str) -> str:
    """Return the name of the recipe that trains on own data for a task."""
    return _RECIPES[task]


def plain_name(folder: Path) -> str:
    """Return what a run on a folder is called: the folder's name without spaces and the like."""
    return re.sub(r"[^\w.-]+", "_", folder.expanduser().resolve().name).strip("._") or FOLDER
