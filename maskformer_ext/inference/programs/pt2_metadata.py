"""Read the metadata of a ``.pt2`` file without torch, and refuse what would run code when torch loads the file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskformer_ext.errors import UserError, printable, why

METADATA_FILE = "maskformer_ext.json"
"""The name of the metadata among the extra files of the archive."""

_LONGEST = 1 << 26  # bytes of metadata or of a table of tensors
_PICKLE = "which may run any code"


def read_pt2_metadata(path: Path) -> Mapping[str, str]:
    """Return the metadata of a program of ``torch.export``; nothing where the file has none.

    Raises:
        UserError: if the file cannot be read, is no such program, or holds pickles or compiled code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_code(archive)
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(f"/{METADATA_FILE}")]
            values = json.loads(_read(archive, entries[0])) if entries else {}
    except (
        OSError,
        zipfile.BadZipFile,
        EOFError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise UserError(f"{printable(path)} is damaged or no program of torch.export: {why(error)}") from None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise UserError(f"{printable(path)}: its metadata is damaged: {METADATA_FILE} must hold names and texts")
    return values


def _refuse_code(archive: zipfile.ZipFile) -> None:
    """Check that torch neither unpickles nor loads compiled code when it opens the archive.

    Besides what it writes today, torch reads the formats of its earlier versions, which are pickles.
    """
    for entry in archive.infolist():
        _, has_root, name = entry.filename.partition("/")
        if not has_root:
            raise ValueError(f"it is of a format that torch wrote before 2.9, with pickles, {_PICKLE}")
        if name.startswith("data/aotinductor/"):
            raise ValueError(f"it holds compiled code ({printable(name)}), {_PICKLE}")
        if name.startswith("data/sample_inputs/"):
            if entry.file_size:
                raise ValueError(f"it holds example inputs as a pickle, {_PICKLE}")
        elif name.startswith("data/") and name.endswith(".pt"):
            raise ValueError(f"it holds a pickle ({printable(name)}), {_PICKLE}")
        elif name.endswith("_config.json"):
            for tensor in json.loads(_read(archive, entry))["config"].values():
                _refuse_pickled(tensor)


def _refuse_pickled(tensor: Mapping[str, Any]) -> None:
    """Check that an entry of a table of tensors is plain numbers: torch goes by the flag or by the file's name."""
    if tensor["use_pickle"] or not tensor["path_name"].startswith(("weight_", "tensor_")):
        raise ValueError(f"it holds pickles, {_PICKLE}")


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > _LONGEST:
        raise ValueError(f"{printable(entry.filename)} has {entry.file_size} bytes, which are too many for a table")
    return archive.read(entry)
