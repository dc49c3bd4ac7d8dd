"""Read pickles of NumPy arrays and plain containers without running anything that the file asks for.

A pickle is a program: it names functions and calls them. Here every name is looked up in a fixed table of stand-ins
that only record what they are given; the arrays are built afterwards, by this module, from raw bytes. NumPy's own
unpickling, which trusts its input, is never reached.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from maskformer_ext.errors import UserError

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
    try:
        with path.open("rb") as file:
            return _plain(_Unpickler(file, encoding="latin1").load())  # what Python 2 wrote holds bytes as text
    except _Refused as error:
        hint = ": save torch's tensors with torch.save, as .pth" if str(error).startswith("torch.") else ""
        raise UserError(
            f"weights file {path} holds {error}, which is neither a NumPy array nor a plain container; it was not "
            f"loaded{hint}"
        ) from None
    except FileNotFoundError:
        raise UserError(f"weights file {path} does not exist") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(
            f"weights file {path} cannot be read; it may be truncated or no pickle: {type(error).__name__}: {error}"
        ) from error


class _Refused(Exception):
    """What the file asks for and does not get."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        module = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any, /) -> Any:
        raise _Refused("a reference to something outside the file")


class _StandIn:
    """What a name in a pickle gives: something to call or pass on, which the file cannot change."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any] | None) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        if self.function is None:
            raise _Refused("a call of numpy.ndarray")
        return self.function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("a change of a function")


class _DType:
    """The type of an array's entries, as `numpy.dtype` is pickled: ``dtype("f4", False, True)``, then its state."""

    def __init__(self, code: Any, *_: Any) -> None:
        dtype = np.dtype(code) if isinstance(code, str) else None
        if dtype is None or dtype.kind not in _KINDS:
            raise _Refused(f"an array of type {code!r}")
        self.dtype = dtype

    def __setstate__(self, state: tuple) -> None:
        if state[1] in "<>":
            self.dtype = self.dtype.newbyteorder(state[1])
        if any(part is not None for part in state[2:5]):
            raise _Refused("an array of structures")


class _Array:
    """An array, as `numpy.ndarray` is pickled: an empty one, then its state."""

    def __init__(self, *_: Any) -> None:
        self.value = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, by_column, data = state
        self.value = _from_bytes(data, dtype, shape, "F" if by_column else "C")


def _from_bytes(data: Any, dtype: Any, shape: tuple[int, ...], order: str) -> np.ndarray:
    if not isinstance(dtype, _DType):
        raise _Refused("an array without a type")
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise _Refused("an array of Python objects")
    native = dtype.dtype.newbyteorder("=")
    return np.frombuffer(data, dtype.dtype).astype(native).reshape(shape, order="F" if order == "F" else "C")


def _from_buffer(data: Any, dtype: Any, shape: tuple[int, ...], order: str, axes: Any = None) -> np.ndarray:
    array = _from_bytes(data, dtype, shape, order)
    return array.transpose(axes) if order == "K" and axes is not None else array


def _scalar(dtype: Any, data: Any) -> Any:
    return _from_bytes(data, dtype, (), "C")[()]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise _Refused(f"text in the encoding {encoding!r}")
    return text.encode("latin1")  # how bytes are written by old protocols


def _no_bytes() -> bytes:
    return b""  # old protocols call the class for these; with arguments it would allocate what the file likes


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _StandIn(None),
    ("numpy", "dtype"): _StandIn(_DType),
    ("numpy.core.multiarray", "_reconstruct"): _StandIn(_Array),
    ("numpy.core.multiarray", "scalar"): _StandIn(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _StandIn(_from_buffer),
    ("_codecs", "encode"): _StandIn(_encode),
    ("collections", "OrderedDict"): _StandIn(OrderedDict),
    ("builtins", "bytes"): _StandIn(_no_bytes),
    ("builtins", "set"): _StandIn(set),
    ("builtins", "frozenset"): _StandIn(frozenset),
}
_PLAIN = (str, bytes, bytearray, int, float, complex, set, frozenset, np.ndarray, np.generic, type(None))


def _plain(value: Any) -> Any:
    """Put arrays where their records are."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(entry) for entry in value)
    if not isinstance(value, _PLAIN):
        raise _Refused("a class or function")
    return value
