"""Read the metadata of an ONNX file without a package for ONNX: its outermost fields are read, the graph is skipped."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

from maskformer_ext.errors import UserError, printable, why

_GRAPH, _METADATA = 7, 14  # numbers of fields of ModelProto in onnx.proto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_LONGEST = 1 << 26  # bytes of an entry


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """Return the ``metadata_props`` of an ONNX file.

    Raises:
        UserError: if the file cannot be read, ends early, or is no ONNX model.
    """
    entries, graphs = {}, 0
    try:
        with open(path, "rb") as file:
            total = os.fstat(file.fileno()).st_size
            while file.tell() < total:
                number, length = _next_field(file, total)
                if number != _METADATA:
                    graphs += number == _GRAPH
                    file.seek(length, os.SEEK_CUR)
                    continue
                if length > _LONGEST:
                    raise ValueError(f"an entry of its metadata has {length} bytes")
                key, value = _entry(file.read(length))
                entries[key] = value
        if graphs != 1:
            raise ValueError("it holds no graph")
    except (OSError, ValueError) as error:
        raise UserError(f"{printable(path)} is damaged or no ONNX model: {why(error)}") from None
    return entries


def _next_field(file: BinaryIO, total: int) -> tuple[int, int]:
    """Return the number of the next field and how many bytes of it follow; numbers are read at once."""
    tag = _varint(file)
    kind = tag & 7
    if kind == 0:
        _varint(file)
        return tag >> 3, 0
    if kind != 2:
        raise ValueError(f"it has a field of kind {kind}")
    length = _varint(file)
    if length > total - file.tell():
        raise ValueError("it ends early")
    return tag >> 3, length


def _varint(file: BinaryIO) -> int:
    value = 0
    for place in range(10):
        if not (read := file.read(1)):
            raise ValueError("it ends early")
        byte = read[0]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value
    raise ValueError("it holds a number of more than 64 bits")


def _entry(data: bytes) -> tuple[str, str]:
    """Return key and value of one entry."""
    file, texts = io.BytesIO(data), {_KEY: "", _VALUE: ""}
    while file.tell() < len(data):
        number, length = _next_field(file, len(data))
        texts[number] = file.read(length).decode("utf-8")
    return texts[_KEY], texts[_VALUE]
