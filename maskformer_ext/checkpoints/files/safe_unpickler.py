"""An unpickler that runs nothing and builds no more than the file holds.

A pickle is a program: it names functions and calls them. Here every name is looked up in a table of stand-ins that only
record what they are given. A program of a few bytes can also ask for any amount of memory or time: what is built is
bounded by the file's size. `SafeUnpickler` refuses keys that are slow to hash, and `Budget` counts what is copied.
"""

from __future__ import annotations

import mmap
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from maskformer_ext.errors import UserError, printable, why

_COPIES = 4  # of a file's bytes: old protocols write them as text, which is turned back first
_ENTRIES_PER_BYTE = 4  # of what a file unfolds to. Containers that occur twice are stored once.
_LARGEST_KEY = 2**60  # Beyond it, numbers can be chosen so that all of them get the same hash.
_LONGEST_KEY = 16


@contextmanager
def opened_pickle(path: Path, what: str) -> Iterator[mmap.mmap]:
    """Map a file into memory, and turn whatever goes wrong while it is unpickled into one sentence.

    Args:
        path: the file.
        what: may be in it besides plain containers.

    Raises:
        UserError: if it is missing, cannot be read, or holds what is refused.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped
    except UserError:
        raise
    except Refused as error:
        hint = ""
        if error.of_torch and "NumPy" in what:
            hint = ": save torch's tensors with torch.save, as .pth"
        elif isinstance(error, RefusedName) and not error.of_torch:
            hint = ": its author can save the weights alone, by torch.save(model.state_dict(), FILE)"
        raise UserError(
            f"weights file {path} holds {printable(error)}, which is neither {what} nor a plain container; it was not "
            f"loaded{hint}"
        ) from None
    except FileNotFoundError:
        raise UserError(f"weights file {path} does not exist") from None
    except OSError as error:
        raise UserError(f"weights file {path} cannot be read: {why(error)}") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(
            f"weights file {path} cannot be read; it may be truncated or no pickle: {why(error)}"
        ) from error


class Refused(Exception):
    """What the file asks for and does not get.

    Attributes:
        of_torch: whether it is a part of torch.
    """

    @property
    def of_torch(self) -> bool:
        return str(self).startswith("torch.")


class RefusedName(Refused):
    """A class or a function that the file names: whoever wrote it can leave that out."""


class Budget:
    """Counts what a file makes the reader build.

    Args:
        size: bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self._bytes, self._entries = _COPIES * size, _ENTRIES_PER_BYTE * size

    def take_bytes(self, count: int) -> None:
        """Count bytes that are copied."""
        self._bytes -= count
        if self._bytes < 0:
            raise Refused("arrays that are larger than the file")

    def take_entries(self, count: int) -> None:
        """Count entries of containers."""
        self._entries -= count
        if self._entries < 0:
            raise Refused(f"containers that unfold to more than {_ENTRIES_PER_BYTE} entries per byte of the file")


class StandIn:
    """What a name in a pickle gives: something to call or pass on, which the file cannot change."""

    __slots__ = ("function", "name")

    def __init__(self, name: str, function: Callable[..., Any] | None = None) -> None:
        self.name, self.function = name, function

    def __call__(self, *arguments: Any) -> Any:
        if self.function is None:
            raise Refused(f"a call of {self.name}")
        return self.function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise Refused("a change of a function")


_Machine: Any = pickle._Unpickler  # the same in Python, whose parts can be replaced


class SafeUnpickler(_Machine):
    """The plain Python unpickler, which reads no more than the file holds, without what can be made to run for ever.

    Args:
        file: a mapped file; read from its position on.
        names: what each name stands for; any other is refused.
        persistent: what references to data outside the pickle stand for; None: they are refused.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(_Machine.dispatch)

    def __init__(self, file: Any, names: Mapping[str, Any], persistent: Callable[[Any], Any] | None = None) -> None:
        super().__init__(file, encoding="latin1")  # what Python 2 wrote holds bytes as text
        self._names, self._persistent, self._size = names, persistent, len(file)

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        try:
            return self._names[f"{module}.{name}"]
        except KeyError:
            raise RefusedName(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent is None:
            raise Refused("a reference to something outside the file")
        return self._persistent(pid)

    def get_extension(self, code: int) -> None:
        raise Refused(f"the extension {code}")

    def load_bytearray8(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        data = self.read(length) if length <= self._size else b""  # Python's own makes room first
        if len(data) != length:
            raise EOFError("the file ends inside a bytearray")
        self.append(bytearray(data))

    def load_build(self) -> None:
        target = self.stack[-2]
        if isinstance(target, OrderedDict):  # the version of a state dict
            self.stack.pop()
            return
        if not hasattr(type(target), "__setstate__") or isinstance(target, np.ndarray | np.generic):
            raise Refused(f"a change of a {type(target).__name__}")
        super().load_build()

    def load_setitem(self) -> None:
        _check_dict(self.stack[-3], self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _check_dict(self.metastack[-1][-1], self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        _check_keys(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        _check_keys(self.stack)
        super().load_frozenset()

    for _code, _method in (
        (pickle.BUILD, load_build),
        (pickle.SETITEM, load_setitem),
        (pickle.SETITEMS, load_setitems),
        (pickle.DICT, load_dict),
        (pickle.ADDITEMS, load_additems),
        (pickle.FROZENSET, load_frozenset),
        (pickle.BYTEARRAY8, load_bytearray8),
    ):
        dispatch[_code[0]] = _method


def ordered_dict(budget: Budget) -> StandIn:
    """Return the stand-in for ``collections.OrderedDict``."""
    return StandIn("collections.OrderedDict", lambda *arguments: OrderedDict(*_checked(arguments, budget, pairs=True)))


def plain_set(name: str, kind: Callable[..., Any], budget: Budget) -> StandIn:
    """Return the stand-in for ``set`` or ``frozenset``."""
    return StandIn(name, lambda *arguments: kind(*_checked(arguments, budget)))


def encode(budget: Budget) -> StandIn:
    """Return the stand-in for ``_codecs.encode``, by which old protocols write bytes."""

    def encoded(text: str, encoding: str = "latin1") -> bytes:
        if encoding != "latin1":
            raise Refused(f"text in the encoding {encoding!r}")
        budget.take_bytes(len(text))
        return text.encode("latin1")

    return StandIn("_codecs.encode", encoded)


def _checked(arguments: tuple[Any, ...], budget: Budget, *, pairs: bool = False) -> tuple[Any, ...]:
    for argument in arguments:
        if not isinstance(argument, list | tuple | dict | set | frozenset):
            raise Refused(f"a container made of a {type(argument).__name__}")
        budget.take_entries(len(argument))
        _check_keys([pair[0] for pair in argument] if pairs and not isinstance(argument, dict) else argument)
    return arguments


def _check_dict(target: Any, keys: Any) -> None:
    if not isinstance(target, dict):
        raise Refused(f"a change of a {type(target).__name__}")
    _check_keys(keys)


def _check_keys(keys: Any) -> None:
    for key in keys:
        parts = key if isinstance(key, tuple) and len(key) <= _LONGEST_KEY else (key,)
        for part in parts:
            if not isinstance(part, str | bytes | int | np.generic | type(None)) or (
                isinstance(part, int) and abs(part) >= _LARGEST_KEY
            ):
                raise Refused(f"a {type(part).__name__} as a key")
