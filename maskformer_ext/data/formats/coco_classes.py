"""The classes of own data in COCO's JSON: those that its two files name, by their names."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskformer_ext.data.classes import ClassTable
from maskformer_ext.data.formats.coco_peek import peek_categories, used_categories
from maskformer_ext.data.formats.own_categories import Category, class_table, peeked, read_categories
from maskformer_ext.errors import UserError, printable

_log = logging.getLogger(__name__)
_SHOWN = 5


@dataclass(frozen=True)
class FileClasses:
    """The classes of both splits, and what one file calls them.

    Attributes:
        table: the classes; all are things unless the file says otherwise.
        class_of_id: the class of each category id of this file.
        ids: for each class an id that results can have: the file's own, or a free one.
    """

    table: ClassTable
    class_of_id: dict[int | str, int]
    ids: tuple[int | str, ...]


def own_classes(content: dict[str, Any], path: Path, partner: Path | None, split: str) -> FileClasses:
    """Return the classes of two annotation files, in the order of the training file's ids.

    Categories with the same name are the same class, whatever their ids. A class that only one file names is a class
    of both. A category that no annotation has and that is only the "supercategory" of others is no class.

    Args:
        content: the file of this split.
        path: where it lies.
        partner: the file of the other split; None where one file serves both.
        split: "train" or "val".

    Raises:
        UserError: if "categories" is not what it must be, or the two files share no name or write one differently.
    """
    records = _list(content, path)
    others = [] if partner is None else peek_categories(partner) or []
    used = {one.get("category_id") for one in content["annotations"] if isinstance(one, dict)}
    parents, parents_there = _parents(records), _parents(others)
    if parents or parents_there:
        used_there = set() if partner is None else used_categories(partner)
        kept = _used(records, used) | _used(others, used_there)
        parents, parents_there = parents - kept, parents_there - kept
    own = read_categories({"categories": [record for record in records if _key(record) not in parents]}, path)
    if not own:
        raise UserError(f'{path} names no category: "categories" must list the classes with "id" and "name".')
    other = [] if partner is None else peeked([one for one in others if _key(one) not in parents_there], partner)
    first, second = (own, other) if split == "train" else (other, own)
    if other and partner is not None:
        _check_names(own, path, other, partner)
    everything = [*first, *(c for c in second if c.name not in {known.name for known in first})]
    if split == "train":
        _report(own, other, parents, path, partner)
    table = class_table(everything)
    class_of_id = {category.number: table.classes.index(category.name) for category in own}
    return FileClasses(table, class_of_id, _ids(table, class_of_id))


def class_names(files: Sequence[Path], categories: Sequence[Sequence[Any]]) -> list[str]:
    """Return the names of the classes of some files, as `own_classes` finds them, from their lists of categories."""
    parents = set().union(*(_parents(records) for records in categories))
    if parents:
        parents -= set().union(
            *(_used(records, used_categories(path)) for path, records in zip(files, categories, strict=True))
        )
    keys = [key for records in categories for key in map(_key, records) if key not in parents]
    return list(dict.fromkeys(str(name) for _, name in keys))


def _used(records: Sequence[Any], used: set[Any]) -> set[tuple[Any, Any]]:
    return {key for key in _keys(records) if key[0] in used}


def _list(content: dict[str, Any], path: Path) -> list[Any]:
    records = content.get("categories")
    if not isinstance(records, list):
        got = "none" if records is None else type(records).__name__
        raise UserError(f'{path}: "categories" must be a list of the classes with "id" and "name", got {got}.')
    return records


def _key(record: Any) -> tuple[Any, Any]:
    """Return what tells a category apart: its id and its name."""
    found = (record.get("id"), record.get("name")) if isinstance(record, dict) else (None, None)
    return found if all(isinstance(part, int | str) for part in found) else (None, None)


def _keys(records: Sequence[Any]) -> set[tuple[Any, Any]]:
    return {_key(record) for record in records}


def _parents(records: Sequence[Any]) -> set[tuple[Any, Any]]:
    """Return the keys of the categories whose name is the "supercategory" of others."""
    members: dict[str, set[Any]] = {}
    for record in records:
        if isinstance(record, dict) and isinstance(record.get("supercategory"), str):
            members.setdefault(record["supercategory"], set()).add(_key(record))
    return {key for key in _keys(records) if key != (None, None) and members.get(key[1], set()) - {key}}


def _check_names(own: Sequence[Category], path: Path, other: Sequence[Category], partner: Path) -> None:
    names, others = {c.name for c in own}, {c.name for c in other}
    if not names & others:
        raise UserError(
            f"{path} and {partner} name no common category ({_named(names)}; {_named(others)}): files of one data set "
            "must name the same classes."
        )
    written = {name.casefold().strip(): name for name in others}
    for name in sorted(names - others):
        if (same := written.get(name.casefold().strip())) is not None and same not in names:
            raise UserError(f"the category {name!r} of {path} is written {same!r} in {partner}: write both alike.")


def _report(
    own: Sequence[Category],
    other: Sequence[Category],
    parents: set[tuple[Any, Any]],
    path: Path,
    partner: Path | None,
) -> None:
    """Say what was left out of the classes, and which of them only one file knows."""
    for number, name in sorted(parents, key=str):
        sentence = f"{path}: the category {number} ({name}) is no class: no annotation has it, it only groups others"
        _log.warning("%s", printable(sentence))
    for mine, theirs, where in ((own, other, path), (other, own, partner)):
        alone = {c.name for c in mine} - {c.name for c in theirs}
        if other and alone:
            _log.warning("%s", printable(f"only {where} names {_named(alone)}"))


def _named(names: Sequence[str] | set[str]) -> str:
    ordered = sorted(names) if isinstance(names, set) else list(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(repr(name) for name in ordered[:_SHOWN]) + more


def _ids(table: ClassTable, class_of_id: dict[int | str, int]) -> tuple[int | str, ...]:
    """Return an id for each class: that of the file, or one that no category has."""
    known = {label: number for number, label in class_of_id.items()}
    free = max((number for number in class_of_id if isinstance(number, int)), default=0) + 1
    missing = [label for label in range(len(table.classes)) if label not in known]
    known |= {label: free + place for place, label in enumerate(missing)}
    return tuple(known[label] for label in range(len(table.classes)))
