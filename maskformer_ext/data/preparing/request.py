"""What the command `prepare` is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from maskformer_ext.config import DataConfig

Track = Callable[[Iterable[Any], int, str], Iterable[Any]]


@dataclass(frozen=True)
class Request:
    """What to check.

    Attributes:
        config: which data set, and where.
        splits: "train", "val" or both.
        files: how many samples of each split are read; None: all.
        convert: "faster", "all" or "none".
        workers: processes.
        track: shows how far a loop is; gets what to iterate, its length and a name.
        draw: gets the splits of own data that can be read, to draw samples of them.
    """

    config: DataConfig
    splits: tuple[str, ...]
    files: int | None
    convert: str
    workers: int
    track: Track
    draw: Callable[[Mapping[str, Any]], None]
