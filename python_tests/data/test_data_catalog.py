"""The catalog: what each data set must have, and that adding one takes a file and a line."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import maskformer_ext
from maskformer_ext.config.load import available_configs, load_config
from maskformer_ext.data.catalog import CATALOG, PUBLIC, canonical_name
from maskformer_ext.data.description import Description
from maskformer_ext.data.tables import load_categories
from maskformer_ext.prepare import main

ROOT = Path(__file__).resolve().parents[2]
_TASKS = {"semantic", "instance", "panoptic"}


@cache
def _table_rows() -> list[list[str]]:
    """Return the cells of each row of the tables in docs/data.md."""
    lines = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]


@cache
def _recipes() -> set[tuple[str, str]]:
    """Return data set and task of every recipe."""
    sections = [load_config(name).data for name in available_configs()]
    return {(canonical_name(data.name), data.task) for data in sections}


def lacks(name: str, found: Description, help_text: str) -> Iterator[str]:
    """Yield what a data set of the catalog must have and has not."""
    public = found.distribution
    if not found.title:
        yield "a title"
    if not found.tasks or not set(found.tasks) <= _TASKS:
        yield "tasks among semantic, instance and panoptic"
    if found.usual_task not in found.tasks:
        yield "a usual task among its tasks"
    places = (found.generated, found.split_folders is not None, public is not None)
    if sum(places) > 1 or not any((*places, found.recognise is not None)):
        yield "one of generated, split_folders, distribution and recognise, which say where its files lie"
    if bool(found.folder) == (found.generated or found.own_classes):
        yield "the name of its folder, unless it is generated or the user's own"
    if public is not None:
        if not public.download:
            yield "a download"
        if set(public.images) != {"train", "val"}:
            yield "the number of images of both splits"
        if not public.needs:
            yield "the paths that it needs"
        if not load_categories(public.table).table.classes:
            yield "classes in its table"
    if found.conversion is not None and (public is None or found.conversion.task not in found.tasks):
        yield "a distribution and a task that its conversion can read"
    rows = [cells for cells in _table_rows() if f"`{name}`" in cells[0]]
    if not rows:
        yield "a row in the tables of docs/data.md"
    elif not any(set(re.findall(r"\w+", cell)) == set(found.tasks) for cells in rows for cell in cells[1:]):
        yield "its tasks in its row of docs/data.md"
    if not found.generated and not re.search(rf"\b{name}\b", help_text):
        yield "its name in the help of prepare"
    if (found.no_recipe == "") != any(known == name for known, _ in _recipes()):
        yield "a recipe, or the reason why there is none in no_recipe"
    elif not found.no_recipe and (name, found.usual_task) not in _recipes():
        yield "a recipe with its usual task"


@pytest.fixture
def help_text(capsys: pytest.CaptureFixture[str]) -> str:
    """What ``prepare --help`` prints."""
    assert main(["--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", CATALOG)
def test_every_data_set_has_all_that_it_needs(name: str, help_text: str) -> None:
    missing = list(lacks(name, CATALOG[name], help_text))
    assert not missing, f"{name} has not: {'; '.join(missing)}"


def test_what_a_data_set_lacks_is_named(help_text: str) -> None:
    assert list(lacks("nowhere", replace(CATALOG["nuclei"], title="", usual_task="depth"), help_text)) == [
        "a title",
        "a usual task among its tasks",
        "a row in the tables of docs/data.md",
        "its name in the help of prepare",
        "a recipe, or the reason why there is none in no_recipe",
    ]


def test_every_file_has_a_line_in_the_catalog() -> None:
    folder = Path(maskformer_ext.__file__).parent / "data" / "sets"
    without = {path.stem for path in folder.glob("*.py")} - {"__init__"} - set(CATALOG)
    assert not without, f"no line in maskformer_ext/data/catalog.py: {', '.join(sorted(without))}"


def test_names_and_aliases_stand_for_one_data_set_each() -> None:
    names = [*CATALOG, *(alias for public in PUBLIC.values() for alias in public.aliases)]
    assert len(set(names)) == len(names)
    assert {canonical_name(name.replace("_", "-").upper()) for name in names if name not in CATALOG} < set(CATALOG)


def test_descriptions_need_no_torch() -> None:
    code = "import sys, maskformer_ext.data.catalog; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0
