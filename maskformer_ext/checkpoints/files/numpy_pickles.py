"""Read pickles of NumPy arrays and plain containers without running anything that the file asks for.

What the file names gives stand-ins (`safe_unpickler`); the arrays are built afterwards, by this module, from raw bytes.
NumPy's own unpickling, which trusts its input, is never reached.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

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

_KINDS = "biufc"  # booleans, integers, unsigned integers, floats, complex numbers


def read_pickle(path: str | Path) -> Any:
    """Read a ``.pkl`` file, such as one of detectron2's model zoo.

    Args:
        path: the file.

    Returns:
        Its content: NumPy arrays and scalars in dicts, lists, tuples, sets, text and numbers.

    Raises:
        UserError: if the file is missing or truncated, or holds anything else, which is named and was not run.
    """
    path = Path(path)
    with opened_pickle(path, "a NumPy array") as file:
        budget = Budget(len(file))
        content = SafeUnpickler(file, _stand_ins(budget)).load()
        return _plain(content, budget)


class _DType:
    """The type of an array's entries, as `numpy.dtype` is pickled: ``dtype("f4", False, True)``, then its state."""

    def __init__(self, code: Any, *_: Any) -> None:
        dtype = np.dtype(code) if isinstance(code, str) else None
        if dtype is None or dtype.kind not in _KINDS:
            raise Refused(f"an array of type {code!r:.40}")
        self.dtype = dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in "<>":
            self.dtype = self.dtype.newbyteorder(state[1])
        if any(part is not None for part in state[2:5]):
            raise Refused("an array of structures")


class _Arrays:
    """Builds arrays from raw bytes.

    Args:
        budget: their bytes are taken from it.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def from_bytes(self, data: Any, dtype: Any, shape: Any, order: str = "C", axes: Any = None) -> np.ndarray:
        if not isinstance(dtype, _DType):
            raise Refused("an array without a type")
        if not isinstance(data, str | bytes | bytearray):
            raise Refused("an array of Python objects")
        self._budget.take_bytes(len(data))
        data = data.encode("latin1") if isinstance(data, str) else data
        native = np.frombuffer(data, dtype.dtype).astype(dtype.dtype.newbyteorder("="))
        array = native.reshape(shape, order="F" if order == "F" else "C")
        return array.transpose(axes) if order == "K" and axes is not None else array

    def scalar(self, dtype: Any, data: Any) -> Any:
        return self.from_bytes(data, dtype, ())[()]

    def empty(self, *_: Any) -> _Array:
        return _Array(self)


class _Array:
    """An array, as `numpy.ndarray` is pickled: an empty one, then its state."""

    def __init__(self, arrays: _Arrays) -> None:
        self._arrays, self.value = arrays, np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, by_column, data = state
        self.value = self._arrays.from_bytes(data, dtype, shape, "F" if by_column else "C")


def _stand_ins(budget: Budget) -> dict[str, Any]:
    arrays = _Arrays(budget)
    functions = {
        "numpy.ndarray": None,
        "numpy.dtype": _DType,
        "numpy.core.multiarray._reconstruct": arrays.empty,
        "numpy.core.multiarray.scalar": arrays.scalar,
        "numpy.core.numeric._frombuffer": arrays.from_bytes,
        "builtins.bytes": _no_bytes,
    }
    return {
        **{name: StandIn(name, function) for name, function in functions.items()},
        "_codecs.encode": encode(budget),
        "collections.OrderedDict": ordered_dict(budget),
        "builtins.set": plain_set("set", set, budget),
        "builtins.frozenset": plain_set("frozenset", frozenset, budget),
    }


def _no_bytes() -> bytes:
    return b""  # old protocols call the class for these; with arguments it would allocate what the file likes


_PLAIN = (str, bytes, bytearray, int, float, complex, set, frozenset, np.ndarray, np.generic, type(None))


def _plain(value: Any, budget: Budget) -> Any:
    """Put arrays where their records are."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        budget.take_entries(len(value))
        return {key: _plain(entry, budget) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        budget.take_entries(len(value))
        return type(value)(_plain(entry, budget) for entry in value)
    if not isinstance(value, _PLAIN):
        raise Refused("a class or function")
    return value
