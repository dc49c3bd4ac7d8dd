"""Which classes the truth of an evaluation holds: a mean over few of them shows little of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maskformer_ext.errors import printable

_NAMED = 8


def absent_classes(metrics: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """Return the classes that the truth never held.

    Args:
        metrics: what `evaluation.run.evaluate` returned.
        classes: names of all classes.
    """
    per_class = metrics.get("per_class", {})
    return [name for name in classes if name in per_class and _is_absent(per_class[name])]


def describe_coverage(metrics: Mapping[str, Any], classes: Sequence[str]) -> str | None:
    """Return a line on the classes that no score covers; None where the truth held every class. Arguments as above."""
    absent = absent_classes(metrics, classes)
    if not absent:
        return None
    more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
    listed = ", ".join(map(printable, absent[:_NAMED]))
    return f"the truth holds {len(classes) - len(absent)} of {len(classes)} classes, never {listed}{more}"


def _is_absent(scores: Mapping[str, Any]) -> bool:
    if "pixels" in scores:
        return not scores["pixels"]
    known = [scores[key] for key in ("PQ", "AP") if key in scores]
    return bool(known) and all(score is None for score in known)
