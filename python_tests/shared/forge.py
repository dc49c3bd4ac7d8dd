"""Change nested structures at random, as somebody who forges a file would, the same way for the same seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 7, 10**9, 10**30, -(10**30), 0.5, float("nan"), float("inf"), 1e308),
    *("", "x", "../../x", "/etc/passwd", "${oc.env:SECRET}", "\x1b[31mred", "\ud800", "a\x00b", "???", "9" * 5000),
    *([], {}, [[]], [1, 2, 3], {"a": 1}, {"": {}}, ["x"] * 3),
)


def forged(value: Any, seed: int) -> Any:
    """Return a copy of a nested structure in which one to three entries are gone, other, or somewhere else."""
    rng = random.Random(seed)
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return value
        container, key = rng.choice(places)
        change = rng.randrange(5)
        if change == 0:
            del container[key]
        elif change == 1 and isinstance(container, list):
            container.append(container[key])
        elif change == 2 and isinstance(container, dict):
            container[rng.choice(("unknown", "0", "\x1b[2J", ""))] = container.pop(key)
        elif change == 3:
            container[key] = nested(rng.choice((3, 30)))
        else:
            container[key] = copy.deepcopy(rng.choice(STRANGE))
    return value


def nested(depth: int) -> Any:
    """Return lists in lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])
