"""In a few words what was found in an image: things are counted, and of everything else its share is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from maskformer_ext.errors import printable

_MOST_CLASSES = 6
_LONGEST_NAME = 40


def summarize(segments: Sequence[dict[str, Any]], task: str, pixels: int, min_score: float) -> str:
    """Return a line such as ``car x2, person x1, road 41%``: the most frequent class first, about six of them.

    Args:
        segments: as ``json/NAME.json`` has them.
        task: "semantic": every class has a share; "instance": every class is counted; "panoptic": things are counted.
        pixels: of the image.
        min_score: instances below it are left out.
    """
    counts: Counter[str] = Counter()
    areas: Counter[str] = Counter()
    unlikely = False
    for segment in segments:
        name = short_name(segment["category"])
        if task == "instance" and segment["score"] < min_score:
            unlikely = True
        elif task == "instance" or (task == "panoptic" and segment["isthing"]):
            counts[name] += 1
        else:
            areas[name] += segment["area"]
    parts = [f"{name} x{count}" for name, count in counts.most_common()]
    parts += [f"{name} {_percent(area, pixels)}" for name, area in areas.most_common()]
    if len(parts) > _MOST_CLASSES + 1:
        parts[_MOST_CLASSES:] = [f"{len(parts) - _MOST_CLASSES} more classes"]
    nothing = f"nothing above min_score={min_score:g}" if unlikely else "nothing"
    return ", ".join(parts) or nothing


def short_name(name: str) -> str:
    """Return the name of a class as a terminal shows it, not longer than a column of a table."""
    name = printable(name)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}\u2026"


def _percent(area: int, pixels: int) -> str:
    share = 100 * area / max(1, pixels)
    return "<1%" if share < 1 else f"{min(round(share), 99 if area < pixels else 100)}%"
