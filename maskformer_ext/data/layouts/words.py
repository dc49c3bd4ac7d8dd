"""How recognition says what a folder was found to hold: how many images, and which classes."""

from __future__ import annotations

from collections.abc import Sequence

_NAMED = 6


def count_images(train: int, val: int | None, what: str = "") -> str:
    """Return how many images there are, by split.

    Args:
        train: for training; all, where there is no split.
        val: for validation; None: there is no split.
        what: that is counted, such as "images"; "": the sentence has said so.
    """
    counted = f"{train} {what}".strip()
    if val is None:
        return f"{counted} without a split of their own (data.val_share draws one)"
    return f"{counted} for training and {val} for validation"


def count_classes(count: int, more: str = "") -> str:
    """Return how many classes there are."""
    return f"{count} class{'es' * (count != 1)}{more}"


def name_classes(names: Sequence[str], more: str = "") -> str:
    """Return how many classes there are, and the names of the first."""
    shown = ", ".join(names[:_NAMED]) + ", ..." * (len(names) > _NAMED)
    return f"{count_classes(len(names), more)}: {shown}"
