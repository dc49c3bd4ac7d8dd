"""Where a data set of Hugging Face `datasets` lies: saved to disk, as parquet or on the hub; found without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskformer_ext.config import DataConfig
from maskformer_ext.config.values import HUB_ID
from maskformer_ext.data.description import Recognition
from maskformer_ext.data.formats.table_columns import LABEL_IMAGE, Columns, choose_columns, features_of_schema
from maskformer_ext.data.layouts.coco import split_of
from maskformer_ext.data.layouts.words import count_classes, count_images
from maskformer_ext.data.split_names import TRAIN, VALIDATING
from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.files import read_json

_MOST_FILES = 10_000


@dataclass(frozen=True)
class TableFiles:
    """The files of a data set, by split.

    Attributes:
        root: the folder, or the hub id.
        kind: "saved" (folders that ``save_to_disk`` wrote), "parquet" or "hub".
        splits: files or folders of "train", and of "val" where there is a split.
        validates: what the split is called that validates.
    """

    root: Path
    kind: str
    splits: dict[str, list[Path]]
    validates: str = ""

    def named(self) -> str:
        """Return what errors call the data set."""
        return str(self.root)


def hub_id(config: DataConfig) -> str | None:
    """Return the hub's name of a data set that ``data.root`` gives in place of a folder."""
    root = config.root or ""
    return root if HUB_ID.fullmatch(root) and not Path(root).expanduser().exists() else None


def locate(config: DataConfig) -> Path | None:
    """Return a hub id as a path, None for folders."""
    found = hub_id(config)
    return None if found is None else Path(found)


def find_tables(root: Path) -> TableFiles | None:
    """Return the files of a data set in a folder; None where there is none.

    Raises:
        UserError: if they have no split for training, or lie in several folders that are data sets of their own.
    """
    if (root / "dataset_dict.json").is_file():
        splits = read_json(root / "dataset_dict.json", "the list of splits that save_to_disk writes")
        names = splits.get("splits") if isinstance(splits, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) and "/" not in name for name in names):
            raise UserError(f'{root / "dataset_dict.json"} must hold a list "splits": save the data set again.')
        return _tables(root, "saved", {name: [root / name] for name in names if name not in (".", "..")})
    if (root / "state.json").is_file() and (root / "dataset_info.json").is_file():
        return TableFiles(root, "saved", {"train": [root]})
    found: dict[str, list[Path]] = {}
    folders = set()
    for path in _parquet_files(root):
        found.setdefault(_split_name(path, root), []).append(path)
        folders.add(path.parent)
    if not found:
        return None
    per_split = {folder.name.lower() for folder in folders} <= {*TRAIN, *VALIDATING}
    if len(folders) > 1 and not per_split:
        named = ", ".join(sorted(printable(folder.relative_to(root).as_posix()) for folder in folders)[:4])
        raise UserError(
            f"{root} has parquet files in several folders ({named}): set data.root to the one that is meant."
        )
    return _tables(root, "parquet", found)


def choose_splits(names: list[str], where: str) -> dict[str, str]:
    """Return which of the splits trains, and which validates, if one does.

    Raises:
        UserError: if none is for training.
    """
    plain = {name.lower(): name for name in names}
    train = next((plain[name] for name in (*TRAIN, "") if name in plain), None)
    if train is None and len(names) == 1:
        train = names[0]
    if train is None:
        raise UserError(f"{where} has no split for training: it has {', '.join(names) or 'none'}, expected train.")
    val = next((plain[name] for name in VALIDATING if name in plain), None)
    return {"train": train, **({"val": val} if val is not None and val != train else {})}


def read_features(tables: TableFiles) -> dict[str, Any]:
    """Return the types of the columns of a data set on the disk, as `datasets` writes them in JSON.

    Raises:
        UserError: if a file is damaged.
    """
    first = tables.splits["train"][0]
    if tables.kind == "saved":
        path = first / "dataset_info.json"
        info = read_json(path, "the description that save_to_disk writes")
        features = info.get("features") if isinstance(info, dict) else None
        if not isinstance(features, dict):
            raise UserError(f'{path} has no "features": save the data set again.')
        return features
    import pyarrow.parquet as parquet

    try:
        schema = parquet.read_schema(first)
    except (OSError, ValueError) as error:
        raise UserError(f"{first} cannot be read as parquet ({why(error)}): download or export it again.") from None
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, LookupError, TypeError):
        features = None
    return features if isinstance(features, dict) else features_of_schema(schema)


def recognise_tables(root: Path) -> Recognition | None:
    """Return what a folder holds that `datasets` or a hub's export wrote; None for other folders."""
    tables = find_tables(root)
    if tables is None:
        return None
    columns = choose_columns(read_features(tables), DataConfig(), tables.named())
    counts = {split: sum(map(_rows, paths)) for split, paths in tables.splits.items()}
    how = "saved by save_to_disk" if tables.kind == "saved" else "as parquet files"
    return _recognition(columns, f"a data set of Hugging Face datasets {how}", counts, tables.validates)


def recognise_hub(config: DataConfig) -> Recognition | None:
    """Return what a data set on the hub holds, where ``data.name`` says so and ``data.root`` is its id."""
    if config.name != "huggingface" or (name := hub_id(config)) is None:
        return None
    from maskformer_ext.data.formats.table_rows import describe_hub

    features, counts = describe_hub(name)
    splits = choose_splits(list(counts), name)
    columns = choose_columns(features, config, name)
    found = {split: counts[called] for split, called in splits.items()}
    return _recognition(columns, "a data set of the Hugging Face hub", found, splits.get("val", ""))


def _recognition(columns: Columns, what: str, counts: dict[str, int], validates: str) -> Recognition:
    note = " (its split test)" if "val" in counts and validates.lower() == "test" else ""
    rows = count_images(counts["train"], counts.get("val"), "images") + note
    labels = f"{columns.kind}{'s' * (columns.kind == LABEL_IMAGE)} in {printable(columns.label)!r}"
    classes = "" if columns.names is None else f", {count_classes(len(columns.names))}"
    said = f"{what}, {rows}, images in {printable(columns.image)!r}, {labels}{classes}"
    return Recognition("huggingface", "semantic" if columns.kind == LABEL_IMAGE else "instance", said)


def _tables(root: Path, kind: str, found: dict[str, list[Path]]) -> TableFiles:
    chosen = choose_splits(list(found), str(root))
    return TableFiles(root, kind, {split: found[name] for split, name in chosen.items()}, chosen.get("val", ""))


def _split_name(path: Path, root: Path) -> str:
    """Return the name of a parquet file's split: "train" of train-00000-of-00002.parquet, as its folder says else."""
    split = split_of(path, root)
    return {"val": "validation"}.get(split, split)


def _parquet_files(root: Path) -> Iterator[Path]:
    """Yield the parquet files of a folder and of the folders in it, by name."""
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))]
    count = 0
    for folder in folders:
        try:
            files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".parquet" and path.is_file())
        except OSError:
            continue
        for path in files[: _MOST_FILES - count]:
            count += 1
            yield path


def _rows(path: Path) -> int:
    """Return how many rows a parquet file has, or the Arrow files of a folder."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        if path.is_file():
            return parquet.read_metadata(path).num_rows
        state = read_json(path / "state.json", "the state that save_to_disk writes")
        total = 0
        for entry in state["_data_files"]:
            with pa.memory_map(str(path / entry["filename"])) as source:
                total += sum(batch.num_rows for batch in pa.ipc.open_stream(source))
        return total
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({why(error)}): save, download or export it again.") from None
