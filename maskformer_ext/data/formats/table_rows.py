"""Rows of a data set of Hugging Face `datasets`: memory-mapped, and nothing of it decoded but what is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maskformer_ext.errors import UserError, why

_SECONDS = 10  # to wait for the hub
_NAMES = ("file_name", "filename", "image_name", "image_id", "id")


class Rows:
    """Some columns of a split.

    Args:
        dataset: of `datasets`.
        columns: that are read.
        where: what errors call the data set.
    """

    def __init__(self, dataset: Any, columns: Sequence[str], where: str) -> None:
        if dataset._indices is not None:
            dataset = dataset.flatten_indices()
        self.where, self._all = where, dataset
        self._read = dataset.select_columns(list(dict.fromkeys(columns))).with_format("arrow")

    def __len__(self) -> int:
        return len(self._read)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the values of a row as Python has them; image files are bytes, or a path.

        Raises:
            UserError: if the table is damaged there.
        """
        try:
            return self._read[index : index + 1].to_pylist()[0]
        except Exception as error:  # of Arrow's and of the library
            raise UserError(f"{self.where}: the row {index} cannot be read ({why(error)}).") from None

    def values(self, column: str) -> list[Any]:
        """Return a column of plain values in full."""
        return self.column(column).to_pylist()

    def column(self, name: str) -> Any:
        """Return a column as Arrow has it."""
        return self._all.data.column(name)

    def identities(self) -> list[int | str] | None:
        """Return the ids that a column gives to the images; None where no column does, or two are the same."""
        for name in ("image_id", "id"):
            if name in self._all.column_names:
                found = self.values(name)
                if all(isinstance(one, int | str) for one in found) and len(set(found)) == len(found):
                    return found
        return None

    def names(self, image: str) -> list[str]:
        """Return a file name for each row: of a column, of the image's path, or the number of the row."""
        import pyarrow as pa
        import pyarrow.compute as compute

        candidates = [self.values(name) for name in _NAMES if name in self._all.column_names]
        column = self._all.data.column(image)
        if pa.types.is_struct(column.type) and "path" in {field.name for field in column.type}:
            candidates.append(compute.struct_field(column, "path").to_pylist())
        for found in candidates:
            if all(isinstance(one, int | str) for one in found):
                names = [_plain(str(one)) for one in found]
                if all(names) and len(set(names)) == len(names):
                    return names
        return [f"{index:06d}" for index in range(len(self))]


def open_saved(path: Path) -> Any:
    """Open what ``save_to_disk`` wrote, memory-mapped.

    Raises:
        UserError: if it is damaged.
    """
    import datasets

    with _quiet():
        try:
            return datasets.load_from_disk(str(path))
        except Exception as error:
            raise UserError(f"{path} cannot be read ({why(error)}): save the data set again.") from None


def open_parquet(paths: Sequence[Path]) -> Any:
    """Open parquet files, which `datasets` turns once into Arrow files that it maps (in ``HF_DATASETS_CACHE``).

    Raises:
        UserError: if they are damaged.
    """
    import datasets

    with _quiet():
        try:
            return datasets.load_dataset("parquet", data_files=[str(path) for path in paths], split="train")
        except Exception as error:
            cause = error.__cause__ or error
            raise UserError(
                f"{paths[0]} cannot be read as parquet ({why(cause)}): download or export it again."
            ) from None


def open_hub(name: str, split: str) -> Any:
    """Download a split of a data set from the hub, or take it from the cache; code that lies beside it never runs.

    Raises:
        UserError: if it is not there, or there is no network.
    """
    import datasets

    with _quiet(), _from_hub(name):
        return datasets.load_dataset(name, split=split)


def describe_hub(name: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the types of the columns of a data set on the hub, and how many rows each split has.

    Raises:
        UserError: as `open_hub`.
    """
    import datasets

    with _quiet(), _from_hub(name):
        info = datasets.load_dataset_builder(name).info
        if info.features is None or not info.splits:
            loaded = datasets.load_dataset(name)
            features = next(iter(loaded.values())).features
            return features.to_dict(), {split: len(rows) for split, rows in loaded.items()}
        return info.features.to_dict(), {split: found.num_examples for split, found in info.splits.items()}


def hub_file(name: str, file: str) -> Path | None:
    """Return a file that a data set on the hub has beside its tables; None where it has none.

    Raises:
        UserError: as `open_hub`.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    with _from_hub(name):
        try:
            return Path(hf_hub_download(name, file, repo_type="dataset"))
        except EntryNotFoundError:  # also where only the cache is asked, and lacks it
            return None


@contextmanager
def _from_hub(name: str) -> Iterator[None]:
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_OFFLINE

    try:
        if not HF_HUB_OFFLINE:  # ask once: the library would go on asking for half a minute
            HfApi().dataset_info(name, timeout=_SECONDS)
        yield
    except Exception as error:  # of the hub's, of the network's and of the library
        raise UserError(
            f"the data set {name} cannot be had from the Hugging Face hub ({why(error)}): check its name and the "
            "network, set data.root to a folder, or HF_HUB_OFFLINE=1 for what was downloaded before."
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Show no progress bars."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _plain(name: str) -> str:
    """Return a name as a path below a folder."""
    parts = [part for part in name.replace("\\", "/").replace("\0", "").split("/") if part not in ("", ".", "..")]
    absolute = name[:1] in ("/", "\\") or (bool(parts) and parts[0][1:] == ":") or "://" in name
    return "/".join(parts[-1:] if absolute else parts)
