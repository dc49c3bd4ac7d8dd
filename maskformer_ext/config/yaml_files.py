"""Read configurations from YAML files that start from one another, whoever wrote them."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.files import read_text

Find: TypeAlias = Callable[[str], Path]
Take: TypeAlias = Callable[[Any, Mapping[Any, Any], str], object]

STRANGE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError, MemoryError)
"""What containers of the wrong structure raise below OmegaConf."""

_LONGEST_YAML = 1_000_000  # values in a file, aliases written out
_DEEPEST_CHAIN = 30  # of files that start from one another
# A reference that asks a resolver, ${oc.env:HOME}; what a backslash escapes is text.
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\\$\{")
_RESOLVER = re.compile(r"\$\{[^}]*:")


def read_yaml(path: Path, find: Find, take: Take) -> Any:
    """Read a file on top of those that its ``base`` names.

    Args:
        path: the file.
        find: returns the file that a base's name stands for, where none lies beside the file that names it.
        take: called with what the bases gave, the plain values of the file on top of them, and "FILE: ". It raises for
            keys and types that do not exist, and may change the former where the latter asks for it.

    Returns:
        The merged values as an OmegaConf dictionary; references between keys are not resolved yet.

    Raises:
        UserError: naming the file, if one is missing, no YAML, of another structure, or refers to something outside.
    """
    return _read(path, find, take, (), {})


def _read(path: Path, find: Find, take: Take, chain: tuple[Path, ...], known: dict[Path, Any]) -> Any:
    """Read one YAML file on top of its bases; ``known`` keeps what has been read, since bases may share theirs."""
    from omegaconf import OmegaConf

    path = path.resolve()
    if path in chain:
        raise UserError(f"{path}: 'base' leads back to the file itself, through {' -> '.join(p.name for p in chain)}")
    if len(chain) >= _DEEPEST_CHAIN:
        raise UserError(f"{path}: 'base' leads through more than {_DEEPEST_CHAIN} files")
    if path in known:
        return known[path]
    values = _parse(path)
    bases = values.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{path}: base must be the name of a configuration, or a list of such, got {bases!r:.60}")
    merged: Any = OmegaConf.create()
    for base in bases:
        merged = OmegaConf.merge(merged, _read(_find_base(base, path, find), find, take, (*chain, path), known))
    take(merged, values, f"{path}: ")  # here, so that an error names this file
    known[path] = OmegaConf.merge(merged, OmegaConf.create(values))
    return known[path]


def _find_base(base: str, path: Path, find: Find) -> Path:
    try:
        beside = [path.parent / base, path.parent / f"{base}.yaml"]
        found = next((file for file in beside if file.is_file() and file.resolve() != path), None)
        return found or find(base)
    except UserError as error:
        raise UserError(f"{path}: base: {error}") from None
    except (ValueError, OSError, RuntimeError) as error:  # a name that no file can have
        raise UserError(f"{path}: base: {base!r:.60} is no name of a file ({why(error)})") from None


def _parse(path: Path) -> dict[Any, Any]:
    """Return what a YAML file holds, as plain containers, with references between keys unresolved."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    text = read_text(path, "a configuration")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode | None):
            raise UserError(f"{path}: must hold 'key: value' pairs")
        _check_size(node, path)
        plain = typing.cast("dict[Any, Any]", OmegaConf.to_container(OmegaConf.create(text)))
    except (yaml.YAMLError, OmegaConfBaseException, *STRANGE) as error:
        raise UserError(f"{path}: is not valid YAML: {reason(error)}") from error
    refuse_resolvers(plain, f"{path}: ")
    if dotted := next((key for key in plain if "." in str(key)), None):
        section, _, inside = str(dotted).partition(".")
        raise UserError(
            f"{path}: unknown key {dotted!r:.80}: write it in its section, {section:.40}: {{{inside:.40}: ...}}"
        )
    return plain


def _check_size(node: Any, path: Path) -> None:
    """Refuse a file whose aliases, written out, give more values than anybody means."""
    sizes: dict[int, int] = {}

    def size(node: Any) -> int:
        if id(node) not in sizes:
            children = node.value if isinstance(node.value, list) else ()
            pairs = [child if isinstance(child, tuple) else (child,) for child in children]
            sizes[id(node)] = 1  # where a node holds itself
            sizes[id(node)] = 1 + sum(size(child) for pair in pairs for child in pair)
        return sizes[id(node)]

    if node is not None and size(node) > _LONGEST_YAML:
        raise UserError(f"{path}: is not valid YAML: its aliases stand for more than {_LONGEST_YAML} values")


def refuse_resolvers(values: Any, where: str, key: str = "") -> None:
    """Raise `UserError` if a text refers to something outside the configuration, as ``${oc.env:HOME}`` does."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            refuse_resolvers(value, where, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list):
        for value in values:
            refuse_resolvers(value, where, key)
    elif isinstance(values, str) and _RESOLVER.search(_ESCAPED.sub("", values)):
        raise UserError(
            f"{where}{key}: {values!r:.60} refers to something outside the configuration, which is not looked up: "
            'write the value, or let the shell put it in, key="$NAME"'
        )


def reason(error: BaseException) -> str:
    """Return all of a YAML error on one line: the place comes last."""
    return why(error) if isinstance(error, STRANGE) else printable(error)
