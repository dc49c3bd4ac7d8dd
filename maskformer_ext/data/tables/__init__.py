"""Class tables of public data sets: one JSON file each, one class per line, in the order of the class ids.

``id`` is the value that stands for the class in the files as distributed; ``color`` is RGB; ``thing`` marks classes
whose instances are told apart. These are facts of the data sets, not code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from maskformer_ext.data.classes import ClassTable, palette


@dataclass(frozen=True)
class Categories:
    """The classes of a public data set and the values that stand for them in its files.

    Attributes:
        ids: the value of each class, a number (an annotation file of others may use text); the index is the class id.
        table: names, colours and things, by class id.
        instance_ids: the value of each class in a second numbering (ADE20K's instance images), 0 where it has none.
    """

    ids: tuple[Any, ...]
    table: ClassTable
    instance_ids: tuple[int, ...]


@cache
def load_categories(name: str) -> Categories:
    """Return a bundled class table.

    Args:
        name: of a file beside this one, without ``.json``. Classes without colour get one from a palette.
    """
    rows = json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
    spare = palette(len(rows))
    table = ClassTable(
        classes=tuple(row["name"] for row in rows),
        colors=tuple(tuple(row.get("color", color)) for row, color in zip(rows, spare, strict=True)),
        things=tuple(index for index, row in enumerate(rows) if row.get("thing")),
    )
    return Categories(tuple(row["id"] for row in rows), table, tuple(row.get("instance_id", 0) for row in rows))
