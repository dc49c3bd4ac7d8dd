"""The categories that an annotation file in COCO's format names: COCO's own, or those of somebody else's data."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskformer_ext.data.classes import ClassTable, Color, palette
from maskformer_ext.data.formats.coco_json import TEXT, field
from maskformer_ext.data.formats.coco_peek import peek_categories
from maskformer_ext.data.tables import Categories
from maskformer_ext.errors import UserError, printable

_log = logging.getLogger(__name__)
_SHOWN = 10  # classes that the log names
_HEX_COLOR = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")


@dataclass(frozen=True)
class Category:
    """One entry of "categories".

    Attributes:
        number: its id in the file.
        name: its name.
        thing: whether its instances are told apart; None: the file does not say.
        color: RGB; None: the file gives none.
    """

    number: int | str
    name: str
    thing: bool | None
    color: Color | None


def choose_categories(
    content: dict[str, Any], path: Path, known: Categories, *, partner: Path | None = None, panoptic: bool = False
) -> Categories:
    """Return the classes of a file: ``known`` where its categories agree with them, otherwise its own.

    Categories agree if each has the id and the name of a known one; files without categories do. The classes of the
    training and the validation file are the same: those of the file that names more.

    Args:
        content: the annotation file.
        path: where it lies.
        known: what the ids mean in the public data set.
        partner: the file of the other split, if there is one.
        panoptic: the file must say which categories are things; elsewhere all are whose "isthing" is not 0.

    Returns:
        The classes, with the ids that they have in this file.

    Raises:
        UserError: if "categories" is not what it must be, or the two files disagree.
    """
    own = read_categories(content, path)
    other = [] if partner is None else peeked(peek_categories(partner) or [], partner)
    if all(_agrees(category, known) for category in [*own, *other]):
        return known
    other_path = path if partner is None else partner
    if not own:  # the file gives its ids no meaning, but its partner does
        own, path = other, other_path
    _check_partner(own, path, other, other_path)
    most = min(own, other, key=_rank)
    number_of = {category.name: category.number for category in [*other, *own]}
    if panoptic and (silent := next((c for c in most if c.thing is None), None)):
        raise UserError(f'{path}: the category {printable(silent.number)} ({silent.name}) has no "isthing".')
    table = class_table(most)
    names = ", ".join(table.classes[:_SHOWN]) + (", ..." if len(most) > _SHOWN else "")
    _log.warning("%s", printable(f"{path} has {len(most)} categories of its own, which are the classes: {names}"))
    return Categories(tuple(number_of[name] for name in table.classes), table, (0,) * len(most))


def read_categories(content: dict[str, Any], path: Path) -> list[Category]:
    """Return the categories of a file in the order of their ids; [] where it has none.

    Raises:
        UserError: if they are no list of ids and names that differ.
    """
    records = content.get("categories")
    if records is None:
        return []
    if not isinstance(records, list):
        raise UserError(f'{path}: "categories" must be a list, got {type(records).__name__}.')
    categories = []
    for record in records:
        number = field(record, "id", "category", path)
        name = printable(field(record, "name", "category", path, TEXT))
        thing = record.get("isthing")
        if thing not in (None, 0, 1):
            raise UserError(f'{path}: "isthing" of category {printable(number)} must be 0 or 1, got {thing!r:.40}.')
        thing = None if thing is None else bool(thing)
        if not name:
            raise UserError(f"{path}: the name of category {printable(number)} is empty.")
        categories.append(Category(number, name, thing, _color(record.get("color"))))
    seen: dict[int | str, str] = {}
    ids: dict[str, int | str] = {}
    for category in categories:
        if category.number in seen:
            names = f"{seen[category.number]!r} and {category.name!r}"
            raise UserError(f"{path}: the category id {printable(category.number)} stands for {names}.")
        if category.name in ids:
            numbers = f"{printable(ids[category.name])} and {printable(category.number)}"
            raise UserError(f"{path}: the categories {numbers} are both called {category.name!r}: rename one of them.")
        seen[category.number], ids[category.name] = category.name, category.number
    return sorted(categories, key=lambda category: (isinstance(category.number, str), category.number))


def peeked(records: Sequence[Any], path: Path) -> list[Category]:
    """Return the categories of the file of the other split; [] where it is damaged, which its own split reports."""
    try:
        return read_categories({"categories": list(records)}, path)
    except UserError:
        return []


def class_table(categories: Sequence[Category]) -> ClassTable:
    """Return categories as classes: all are things unless they say otherwise."""
    colors = [category.color or spare for category, spare in zip(categories, palette(len(categories)), strict=True)]
    things = tuple(index for index, category in enumerate(categories) if category.thing is not False)
    return ClassTable(tuple(category.name for category in categories), tuple(colors), things)


def _agrees(category: Category, known: Categories) -> bool:
    """Return whether a category is a known one; names may be written a little differently."""
    if category.number not in known.ids:
        return False
    index = known.ids.index(category.number)
    if category.thing is not None and category.thing != (index in known.table.things):
        return False
    return not _synonyms(category.name).isdisjoint(_synonyms(known.table.classes[index]))


def _synonyms(name: str) -> set[str]:
    """Return the names that a name like "road, route" holds, letters and digits only."""
    return {re.sub(r"\W|_", "", part).casefold() for part in re.split("[,;]", name)} - {""} or {name}


def _check_partner(own: Sequence[Category], path: Path, other: Sequence[Category], partner: Path) -> None:
    """Raise if the files of the two splits do not speak of the same categories."""
    names, others = {category.name for category in own}, {category.name for category in other}
    if not other or names == others:
        strange = []
    else:
        numbers = {category.number: category.name for category in other}
        strange = [c for c in own if numbers.get(c.number, c.name) != c.name]
        strange = strange or ([c for c in own if c.name not in others] if others - names else [])
    if strange:
        found = next((c.name for c in other if c.number == strange[0].number), None)
        says = f"is {found!r}" if found is not None else "is missing"
        raise UserError(
            f"the category {printable(strange[0].number)} is {strange[0].name!r} in {path}, but {says} in {partner}: "
            "both files must name the same categories."
        )
    thing = {category.name: category.thing for category in other}
    for category in own:
        if category.thing is not None and thing.get(category.name, category.thing) not in (None, category.thing):
            raise UserError(f'"isthing" of the category {category.name!r} differs between {path} and {partner}.')


def _rank(categories: Sequence[Category]) -> tuple[int, list[str]]:
    """Return a key by which both splits choose the same of their two lists: the longer one comes first."""
    return -len(categories), [f"{c.name} {c.thing} {c.color}" for c in categories]


def _color(value: Any) -> Color | None:
    """Return a colour, [red, green, blue] or "#rrggbb"; None for anything else, as colours are for pictures only."""
    if isinstance(value, str) and (digits := _HEX_COLOR.fullmatch(value)):
        red, green, blue = (int(part, 16) for part in digits.groups())
        return red, green, blue
    if isinstance(value, list) and len(value) == 3 and all(type(c) is int and 0 <= c <= 255 for c in value):
        return value[0], value[1], value[2]
    return None
