"""How a class of transformers is replaced in single instances, undone and described.

A `Part` names a class of transformers and a mixin of ours. `accelerate` gives each instance another class: one that
inherits from the mixin first, and from the instance's own class second. It has the same name. So nothing is patched in
transformers' modules, and ``super()`` in a mixin is transformers' own code. Parameters, buffers, ``state_dict``,
hooks, ``isinstance``, copying, pickling and ``torch.compile`` work as before.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

_ORIGINAL, _MIXIN = "_maskformer_ext_original", "_maskformer_ext_mixin"


@dataclass(frozen=True)
class Part:
    """A class of transformers, and what runs in its place.

    Attributes:
        names: of the classes in transformers, which has copies of one class under several names.
        mixin: the class whose methods come before those of transformers. A method that both have must have the
            same parameters, else the class is one of another version.
        by: what runs instead, in a few words for `describe`.
        needs: attributes that an instance must have, else its class is one of another version.
        package: where the classes are, if not in transformers.
        within: classes of which the model must contain one, where the part pays in some models only.
    """

    names: tuple[str, ...]
    mixin: type
    by: str
    needs: tuple[str, ...] = ()
    package: str = "transformers"
    within: tuple[str, ...] = ()


@dataclass(frozen=True)
class Replacement:
    """What `describe` found in one place.

    Attributes:
        where: the module's name in the model, "" for the model itself; "processor" for a processor.
        name: its class in transformers.
        by: what runs instead of it.
        left: why transformers' own code still runs there; "" where ours does.
    """

    where: str
    name: str
    by: str
    left: str = ""

    def __str__(self) -> str:
        place = f"{self.where or 'model'} ({self.name})"
        return f"{place}: left as it is, {self.left}" if self.left else f"{place}: {self.by}"


class _Swapped:
    """The base of every class that `swap` makes.

    Copies and pickles name what it was made of. A new instance, as ``type(model).from_pretrained`` makes it, is
    transformers' own.
    """

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        return getattr(cls, _ORIGINAL)(*arguments, **options)

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(max(int(protocol), 2))
        return (_instance_of, (getattr(type(self), _ORIGINAL), getattr(type(self), _MIXIN)), *reduced[2:])


@functools.cache
def _swapped(original: Any, mixin: Any) -> Any:
    names = {
        _ORIGINAL: original,
        _MIXIN: mixin,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__doc__": original.__doc__,
    }
    return type(original.__name__, (_Swapped, mixin, original), names)


def _instance_of(original: Any, mixin: Any) -> Any:
    return object.__new__(_swapped(original, mixin))


def is_older_than(major: int, minor: int) -> bool:
    """Return whether transformers is older than a version; for what a method's parameters do not tell."""
    import transformers

    numbers = transformers.__version__.split(".")
    return (int(numbers[0]), int(numbers[1])) < (major, minor)


def is_swapped(instance: Any) -> bool:
    """Return whether `swap` has been here."""
    return isinstance(instance, _Swapped)


def swap(instance: Any, mixin: Any) -> None:
    """Put the methods of a mixin before those of an instance's class."""
    original: Any = type(instance)
    instance.__class__ = _swapped(original, mixin)


def swap_back(instance: Any) -> None:
    """Undo `swap`; an instance to whose class others have added since, such as FSDP, stays as it is."""
    if _ORIGINAL in vars(type(instance)):
        instance.__class__ = getattr(type(instance), _ORIGINAL)


def find(root: Any, parts: Iterable[Part]) -> Iterator[tuple[str, Any, Part, str]]:
    """Yield what is known in a model or a processor: its name there, the instance, its part, and why it does not fit.

    The last is "" where the part fits. Of several parts for one class the first that fits counts.
    """
    whole = isinstance(root, nn.Module)
    inside = {base.__name__ for module in root.modules() for base in type(module).__mro__} if whole else set()
    table: dict[str, list[Part]] = {}
    for part in parts:
        if not part.within or inside.intersection(part.within):
            for name in part.names:
                table.setdefault(name, []).append(part)
    # A processor of several kinds of input hands images on to one of images.
    places = root.named_modules() if whole else [("processor", getattr(root, "image_processor", root))]
    for where, instance in places:
        known = next((base for base in type(instance).__mro__ if _is_known(base, table)), None)
        if known is None:
            continue
        reasons = []
        for part in table[known.__name__]:
            reasons.append(_misfit(instance, known, part))
            if not reasons[-1]:
                break
        yield where, instance, part, "" if not reasons[-1] else reasons[0]


def _is_known(base: type, table: dict[str, list[Part]]) -> bool:
    packages = [part.package for part in table.get(base.__name__, ())]
    return base.__module__.partition(".")[0] in packages and not issubclass(base, _Swapped)


def _misfit(instance: Any, known: type, part: Part) -> str:
    """Return why a mixin cannot stand before a class of transformers, or ""."""
    own = getattr(type(instance), _ORIGINAL, type(instance))
    for name, ours in _members(part.mixin).items():
        if name in vars(instance):  # a kernel from the hub, a hook
            return f"since this instance has a {name} of its own"
        if not (inspect.isfunction(ours) or isinstance(ours, property)) or not hasattr(known, name):
            continue
        theirs = inspect.getattr_static(known, name)
        if inspect.getattr_static(own, name) is not theirs:
            return f"since its class {own.__module__}.{own.__qualname__} has a {name} of its own"
        if inspect.isfunction(ours) and inspect.isfunction(theirs) and not _stands_in(ours, theirs):
            return (
                f"since its {name}({', '.join(_shown(theirs))}) has other parameters than the versions of "
                f"{part.package} that are known here: ({', '.join(_shown(ours))})"
            )
    missing = [name for name in part.needs if not hasattr(instance, name)]
    return (
        f"since it has no {missing[0]}, unlike in the versions of {part.package} that are known here" if missing else ""
    )


def _members(mixin: type) -> dict[str, Any]:
    """Return what a mixin and the mixins below it define."""
    members: dict[str, Any] = {}
    for base in reversed([base for base in mixin.__mro__ if base not in nn.Module.__mro__]):
        members.update(vars(base))
    return members


def _stands_in(ours: Any, theirs: Any) -> bool:
    """Return whether every call of a method of transformers means the same to ours.

    Ours may have more parameters at the end, with defaults, which older versions do not know.
    """
    mine, others = _parameters(ours), _parameters(theirs)
    common = zip(mine, others, strict=False)
    same = all(a.name == b.name and a.kind == b.kind and a.default == b.default for a, b in common)
    return same and len(mine) >= len(others) and all(p.default is not p.empty for p in mine[len(others) :])


def _parameters(function: Any) -> list[inspect.Parameter]:
    """Return the parameters of a method without self; decorators of transformers are looked through."""
    return [p for p in inspect.signature(function).parameters.values() if p.name != "self"]


def _shown(function: Any) -> list[str]:
    """Return the parameters as they are written, without types."""
    return [str(p.replace(annotation=p.empty)) for p in _parameters(function)]
