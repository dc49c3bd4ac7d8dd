"""Read what torch.save wrote, after a look at what it would build: tensors no larger than the file, nothing else.

``torch.load(weights_only=True)`` runs no code of the file, but it builds what the file asks for. A few bytes may ask
for a tensor of any size, or for keys that take for ever to hash. So `SafeUnpickler` goes through the pickle first, with
records in place of tensors.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from maskformer_ext.checkpoints.files.safe_unpickler import (
    Budget,
    Refused,
    SafeUnpickler,
    StandIn,
    encode,
    opened_pickle,
    ordered_dict,
    plain_set,
)
from maskformer_ext.errors import UserError, why

ZIP = b"PK\x03\x04"
"""How files of torch.save begin, but for those of its first years."""

_TAR_MARK = (257, b"ustar")
_MAGIC = 0x1950A86A20F9469CFC6C  # how files of torch.save began before
_VIEWS = 8  # times the file's bytes: what all tensors may take together, since some share their numbers
_LEAST = 1 << 20
# Bytes of a number, by the class that torch pickles for blocks of them.
_STORAGES = {
    **{"DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2},
    **{"LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1},
    "UntypedStorage": 1,
}
_DTYPES = {
    str(value): value.itemsize
    for value in vars(torch).values()
    if isinstance(value, torch.dtype) and not value.is_complex and not str(value).startswith(("torch.q", "torch.bits"))
}


def read_torch(path: str | Path) -> Any:
    """Read a file of torch.save without running what it holds, onto the CPU.

    Args:
        path: the file, in the format of any version of torch.save.

    Returns:
        Its content: dense tensors and plain containers.

    Raises:
        UserError: if the file is missing, truncated, asks for more than it holds, or holds anything else.
    """
    path = Path(path)
    with opened_pickle(path, "a tensor of real numbers") as file:
        if file[: len(ZIP)] == ZIP:
            _check_zip(path, file)
        elif file[_TAR_MARK[0] : _TAR_MARK[0] + len(_TAR_MARK[1])] == _TAR_MARK[1]:
            raise UserError(f"weights file {path} is a tar archive of torch's first versions: save it anew with torch")
        else:
            _check_stream(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what passed above can still be damaged in many ways
        raise UserError(f"weights file {path} cannot be read; it may be truncated: {why(error)}") from error


def _check_zip(path: Path, file: Any) -> None:
    size = len(file)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"its archive is damaged ({why(error)})") from None
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if not stored or sum(entry.file_size for entry in entries) > size:
        raise Refused("compressed or overlapping records, which torch.save does not write")
    if len({entry.filename for entry in entries}) < len(entries):
        raise Refused("two records of one name")
    pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
    if len(pickles) != 1:
        raise Refused(f"{len(pickles)} records data.pkl, where torch.save writes one")
    folder = pickles[0].filename.removesuffix("data.pkl") + "data/"
    records = {entry.filename.removeprefix(folder): entry.file_size for entry in entries}
    SafeUnpickler(_Stream(_record(file, pickles[0])), *_names(size, records)).load()


def _record(file: Any, entry: zipfile.ZipInfo) -> bytes:
    """Return a record's bytes; its checksum may be missing, since torch can be told to write none."""
    lengths = file[entry.header_offset + 26 : entry.header_offset + 30]
    if len(lengths) != 4:
        raise EOFError("its archive is cut off")
    start = entry.header_offset + 30 + sum(struct.unpack("<HH", lengths))
    return file[start : start + entry.file_size]


class _Stream(io.BytesIO):
    """Bytes with a length, as a mapped file has one."""

    def __len__(self) -> int:
        return self.getbuffer().nbytes


def _check_stream(file: Any) -> None:
    """Go through a file of torch.save's first format: several pickles, then the numbers."""
    names = _names(len(file), None)
    if SafeUnpickler(file, {}).load() != _MAGIC:
        raise ValueError("it does not begin as files of torch.save do")
    for _ in range(4):  # version, facts about the machine, the content, the keys of what follows
        SafeUnpickler(file, *names).load()


class _Storage:
    """Numbers in the file."""

    def __init__(self, itemsize: int, count: int) -> None:
        self.itemsize, self.count = itemsize, count


class _Record:
    """Something that may lie in a file, of which nothing needs to be known."""

    def __setstate__(self, state: Any) -> None:
        pass


def _names(size: int, records: dict[str, int] | None) -> tuple[dict[str, Any], Any]:
    """Return what names in a file stand for, and what references to its numbers do.

    Args:
        size: bytes of the file.
        records: bytes of each block of numbers; None: unknown, they lie behind one another.
    """
    budget, views = Budget(max(size, _LEAST)), Budget(max(_VIEWS * size, _LEAST))
    types = {StandIn(f"torch.{name}"): itemsize for name, itemsize in _STORAGES.items()}
    dtypes = {StandIn(name): itemsize for name, itemsize in _DTYPES.items()}

    def storage(pid: Any) -> _Storage:
        kind, storage_type, key, _, count = pid[:5]
        itemsize = types.get(storage_type)
        if kind != "storage" or itemsize is None or not isinstance(count, int) or count < 0:
            raise Refused("a reference to something outside the file")
        if count * itemsize > (size if records is None else records.get(str(key), -1)):
            raise Refused("a tensor that is larger than its numbers in the file")
        return _Storage(itemsize, count)

    def tensor(numbers: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _Record:
        itemsize, count = numbers.itemsize, numbers.count
        kind = rest[2] if len(rest) >= 3 and isinstance(rest[2], StandIn) else None
        if kind in dtypes:  # of the newer types, whose numbers lie there as bytes
            itemsize, count = dtypes[kind], itemsize * count // dtypes[kind]
        if len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
            raise Refused("a tensor of an impossible shape")
        if math.prod(shape):
            last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
            if last >= count:
                raise Refused("a tensor that is larger than its numbers in the file")
        with contextlib.suppress(Refused):
            views.take_bytes(math.prod(shape) * itemsize)
            return _Record()
        raise Refused(f"tensors that take more than {_VIEWS} times the bytes of the file")

    def parameter(data: Any, *_: Any) -> Any:
        if not isinstance(data, _Record):
            raise Refused("a parameter without a tensor")
        return data

    def counted(*arguments: Any) -> dict[Any, Any]:
        for argument in arguments:
            if not isinstance(argument, dict):
                raise Refused("a collections.Counter of something else")
            budget.take_entries(len(argument))
        return dict(*arguments)

    def shape_of(*arguments: Any) -> tuple[Any, ...]:
        for argument in arguments:
            budget.take_entries(len(argument))
        return tuple(*arguments)

    tensor_types = [StandIn(name) for name in ("torch.Tensor", "torch.nn.parameter.Parameter")]

    def with_attributes(function: Any, kind: Any, arguments: Any, _: Any) -> Any:
        if kind not in tensor_types or function not in rebuild:
            raise Refused("a subclass of torch.Tensor")
        return function(*arguments)

    rebuild = [
        StandIn("torch._utils._rebuild_tensor", tensor),
        StandIn("torch._utils._rebuild_tensor_v2", tensor),
        StandIn("torch._utils._rebuild_tensor_v3", tensor),
        StandIn("torch._utils._rebuild_parameter", parameter),
        StandIn("torch._utils._rebuild_parameter_with_state", parameter),
    ]
    others = [
        StandIn("torch._tensor._rebuild_from_type_v2", with_attributes),
        StandIn("torch.Size", shape_of),
        StandIn("torch.device", lambda *_: _Record()),
        StandIn("builtins.complex", complex),
        StandIn("collections.Counter", counted),
        encode(budget),
        ordered_dict(budget),
    ]
    names = {known.name: known for known in [*types, *dtypes, *tensor_types, *rebuild, *others]}
    names["torch.storage.UntypedStorage"] = names["torch.UntypedStorage"]
    names["builtins.set"] = plain_set("set", set, budget)
    return names, storage
