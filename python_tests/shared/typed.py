"""What a test knows and a type checker does not: a value that is there, its kind, the number of tensors."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")
Tensors = TypeVar("Tensors", bound=tuple[Tensor, ...])


def present(value: T | None) -> T:
    """Return a value after the check that there is one."""
    assert value is not None
    return value


def expect(kind: type[T], value: object) -> T:
    """Return a value after the check that it is of a class."""
    assert isinstance(value, kind), f"{kind.__name__} expected, got {type(value).__name__}"
    return value


def as_dtype(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """Return as many tensors, of another dtype."""
    return cast(Tensors, tuple(tensor.to(dtype) for tensor in tensors))


def load_module(path: Path) -> ModuleType:
    """Import a file that lies in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
