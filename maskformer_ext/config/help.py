"""What ``--help`` prints about the configuration: every key with its default and its comment in ``schema.py``."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from typing import Any

from maskformer_ext.config.load import available_configs
from maskformer_ext.config.schema import Config

_FIELD = re.compile(r"^ {4}(?P<name>\w+): .*?# (?P<comment>.*)$", re.MULTILINE)


def describe_keys(schema: Any = Config, prefix: str = "") -> str:
    """List every key below a section with its default and meaning, one per line."""
    comments = {match["name"]: match["comment"] for match in _FIELD.finditer(inspect.getsource(schema))}
    hints, defaults = typing.get_type_hints(schema), schema()
    lines, sections = [], []
    for field in dataclasses.fields(schema):
        key = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(hints[field.name]):
            title = (hints[field.name].__doc__ or "").strip().splitlines()[0]
            sections.append(f"\n{key}: {title}\n{describe_keys(hints[field.name], f'{key}.')}")
        else:
            assignment = f"{key}={_as_typed(getattr(defaults, field.name))}"
            comment = comments.get(field.name)
            lines.append(f"  {assignment:<46}  {comment}" if comment else f"  {assignment}")
    return "\n".join(lines + sections)


def describe_usage(command: str, purpose: str) -> str:
    """Return the whole help text of a command that takes ``config=NAME key=value ...``."""
    recipes = "\n".join(f"  {name}" for name in available_configs())
    return (
        f"usage: maskformer-ext {command} [config=NAME_OR_FILE] [key=value ...]\n\n{purpose}\n\n"
        "config is one of these names, a YAML file (which may start from one of them: 'base: digits'), or the\n"
        f"output folder of a run:\n{recipes}\n\n"
        f"Keys and their defaults, of which a configuration changes some:\n{describe_keys()}\n"
    )


def _as_typed(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return "[" + ",".join(map(_as_typed, value)) + "]"
    return str(value)
