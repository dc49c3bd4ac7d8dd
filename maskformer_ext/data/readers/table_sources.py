"""From the files of a data set of Hugging Face `datasets` to its reader: rows of a split, columns and classes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskformer_ext.config import DataConfig
from maskformer_ext.data.classes import ClassTable, palette, read_classes_file
from maskformer_ext.data.formats.table_columns import LABEL_IMAGE, Columns, choose_columns
from maskformer_ext.data.formats.table_rows import Rows, hub_file, open_hub, open_parquet, open_saved
from maskformer_ext.data.layouts.tables import choose_splits, find_tables, read_features
from maskformer_ext.data.readers.tables import TableOptions, Tables
from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import read_json

_log = logging.getLogger(__name__)
_CLASS_FILES = ("id2label.json", "classes.json", "classes.txt", "labelmap.txt")


def open_tables(config: DataConfig, root: Path, split: str, hub: str | None) -> Tables:
    """Return a split of a data set.

    Args:
        config: columns, classes file, task and the like.
        root: the folder.
        split: "train" or "val".
        hub: the data set's name on the hub, where it is not in a folder.

    Raises:
        UserError: if it is not there, damaged, or nothing says what its labels mean.
    """
    sources, features = _hub_sources(hub) if hub is not None else _folder_sources(root)
    columns = choose_columns(features, config, str(root))
    drawn = "val" not in sources
    opened = sources["train" if drawn else split]()
    rows = Rows(opened, columns.used, str(root) if drawn else f"{root} ({split})")
    others = [] if drawn else [Rows(sources["val" if split == "train" else "train"](), columns.used, str(root))]
    table, values, void = _classes(config, None if hub is not None else root, columns, [rows, *others], hub)
    options = TableOptions(
        split=split,
        task=config.task,
        background=config.background,
        val_share=config.val_share if drawn else None,
        ignore_label=void,
    )
    return Tables(rows, columns, table, values, options)


def _folder_sources(root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    tables = find_tables(root)
    if tables is None:
        raise UserError(
            f"{root} holds no data set of Hugging Face datasets: expected what save_to_disk wrote, or parquet files."
        )
    openers = {
        split: (lambda paths=paths: open_saved(paths[0]) if tables.kind == "saved" else open_parquet(paths))
        for split, paths in tables.splits.items()
    }
    return openers, read_features(tables)


def _hub_sources(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    from maskformer_ext.data.formats.table_rows import describe_hub

    features, counts = describe_hub(name)
    splits = choose_splits(list(counts), name)
    return {split: (lambda called=called: open_hub(name, called)) for split, called in splits.items()}, features


def _classes(
    config: DataConfig, root: Path | None, columns: Columns, rows: Sequence[Rows], hub: str | None
) -> tuple[ClassTable, list[Any], int]:
    """Return the classes, what stands for each in the labels, and what stands for void.

    The classes file comes first, then the names in the table's types, then ``id2label.json`` or a classes file beside
    the tables. Objects without any of these have the categories that occur as classes.
    """
    path = _classes_file(config, root) if not columns.names or config.classes_file else None
    if path is None and hub is not None and not columns.names:
        path = hub_file(hub, "id2label.json")
    if path is not None and path.name.lower() == "id2label.json":
        return *_id2label(path, config.ignore_label, columns), config.ignore_label
    if path is not None:
        table = read_classes_file(path)
        void = config.ignore_label if table.ignore_label is None else table.ignore_label
        first = 1 if void == 0 and columns.kind == LABEL_IMAGE else 0
        return table, list(range(first, first + len(table.classes))), void
    if columns.names:
        return _table(columns.names), list(range(len(columns.names))), config.ignore_label
    if columns.kind == LABEL_IMAGE:
        raise UserError(
            f"{rows[0].where}: nothing names the classes of its label images: put id2label.json, classes.json or "
            "classes.txt beside them, or set data.classes_file."
        )
    if not columns.category:
        return _table(("object",)), [None], config.ignore_label
    found = sorted({one for part in rows for one in _categories(part, columns)}, key=lambda one: (str(type(one)), one))
    if not found:
        raise UserError(f"{rows[0].where}: its rows hold no object.")
    if any(isinstance(one, int) for one in found):
        _log.warning(
            "%s",
            printable(
                f"{rows[0].where}: nothing names its classes, which are the numbers {found[:10]}; id2label.json would"
            ),
        )
    return _table([printable(one) for one in found]), found, config.ignore_label


def _classes_file(config: DataConfig, root: Path | None) -> Path | None:
    if config.classes_file:
        return (root or Path()) / Path(config.classes_file).expanduser()
    if root is None:
        return None
    return next(
        (folder / name for folder in (root, root / "data") for name in _CLASS_FILES if (folder / name).is_file()), None
    )


def _id2label(path: Path, void: int, columns: Columns) -> tuple[ClassTable, list[Any]]:
    content = read_json(path, "a table of class names by their numbers")
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else []
    found = {}
    for key, name in entries:
        if not str(key).isdecimal() or int(key) > 65535 or not isinstance(name, str) or not name:
            raise UserError(
                f'{path} must map numbers to names, such as {{"0": "wall"}}, got {key!r:.40}: {name!r:.40}.'
            )
        if int(key) != void or columns.kind != LABEL_IMAGE:
            found[int(key)] = printable(name)
    if not found:
        raise UserError(f'{path} names no class: it must map numbers to names, such as {{"0": "wall"}}.')
    values = sorted(found)
    names: list[str] = []
    for value in values:  # public tables give one name to several numbers
        names.append(f"{found[value]} ({value})" if found[value] in names else found[value])
    return _table(names), values


def _categories(rows: Rows, columns: Columns) -> set[Any]:
    """Return the categories that occur in a split, read from their part of the table alone."""
    import pyarrow as pa
    import pyarrow.compute as compute

    column = rows.column(columns.label if columns.segmentation else columns.category)
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_struct(column.type):
        if pa.types.is_struct(column.type):
            column = compute.struct_field(column, columns.category)
        else:
            column = compute.list_flatten(column)
    return set(compute.unique(column).to_pylist()) - {None}


def _table(names: Sequence[str]) -> ClassTable:
    return ClassTable(tuple(names), palette(len(names)), tuple(range(len(names))))
