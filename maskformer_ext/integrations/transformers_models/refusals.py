"""What `accelerate`, `restore` and `describe` say to an argument in which they know nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from maskformer_ext.errors import UserError
from maskformer_ext.integrations.transformers_models.parts import Part, find

_PROCESSORS = ("ImageProcessingMixin", "ProcessorMixin")


def refusal(call: str, argument: str, root: Any, parts: Collection[Part], others: Collection[Part]) -> UserError:
    """Return an error that says what to give instead.

    Args:
        call: the function that was called.
        argument: the name of its argument, "model" or "processor".
        root: its value.
        parts: what is known for this argument.
        others: what is known for the other one.
    """
    return UserError(
        f"{call}: {argument} must be one of transformers that docs/integrations.md lists, "
        f"such as {next(iter(parts)).names[0]}, got {_got(call, argument, root, others)}"
    )


def never_fits(root: Any, others: Collection[Part]) -> bool:
    """Return whether an argument is of another kind, so that also asking what was replaced in it is a mistake."""
    return bool(_hint("", "", root, others))


def is_processor(root: Any) -> bool:
    """Return whether this is a processor of transformers, known here or not."""
    return any(base.__name__ in _PROCESSORS for base in type(root).__mro__)


def _got(call: str, argument: str, root: Any, others: Collection[Part]) -> str:
    name = f"the class {root.__name__}" if isinstance(root, type) else type(root).__name__
    hint = _hint(call, argument, root, others)
    return f"{name}. {hint}" if hint else name


def _hint(call: str, argument: str, root: Any, others: Collection[Part]) -> str:
    if isinstance(root, type):
        return "Give an instance, such as from_pretrained returns."
    if isinstance(root, str):
        return "Load it first, with from_pretrained."
    if isinstance(root, list | tuple | set | dict):
        return "Give what is in it, one call each."
    if isinstance(getattr(root, "model", None), nn.Module) and not isinstance(root, nn.Module):
        return "Give its model and its image processor."
    if any(True for _ in find(root, others)):
        other = "processor" if argument == "model" else "model"
        order = "None, processor" if other == "processor" else "model"
        return f"It goes to the other argument, {call}({order})."
    return ""
