"""Stands in for hypothesis where it is not installed: property tests are skipped, their modules still import."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

_REASON = "hypothesis is not installed: pip install hypothesis"


class _Anything:
    """A strategy or setting that is never used: every attribute and every call gives another one."""

    def __getattr__(self, name: str) -> _Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **options: Any) -> Any:
        # settings(...) and st.composite decorate functions, which must stay functions.
        return args[0] if len(args) == 1 and callable(args[0]) and not options else self

    def __or__(self, other: Any) -> _Anything:
        return self


class _Module(ModuleType):
    """A module of which every name is `_Anything`."""

    given: Any

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__spec__ = ModuleSpec(name, None)  # importlib.util.find_spec fails on a module without one

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything()


def given(*strategies: Any, **named: Any) -> pytest.MarkDecorator:
    """Skip the test, whose arguments nobody draws."""
    return pytest.mark.skip(reason=_REASON)


def install() -> None:
    """Put the stand-in where `import hypothesis` finds it."""
    names = ("hypothesis", "hypothesis.strategies", "hypothesis.extra", "hypothesis.extra.numpy")
    modules = {name: _Module(name) for name in names}
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    modules["hypothesis"].given = given
    sys.modules.update(modules)
